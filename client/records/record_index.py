"""A copy of all job records, kept up to date: what is asked of many jobs is answered from it.

A refresh lists the records, a request for each thousand, and reads those whose version is not the one that was read
last; so it costs what has changed. The copy is an SQLite file in the user's cache folder, one for each bucket and
prefix, or only in memory. It is never the truth: whoever decides anything reads the record.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

from attrs import define, field, frozen

from client.config.composition import Environment
from client.records.database import Database
from client.records.reader import READERS, Found, read_live, read_one
from lifecycle.job_record import JobRecord, Progress
from lifecycle.ports.store import ListedObject
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State

PAGE: Final = 1000
DRIFT_S: Final = 2.0  # two listings may tell a record's age so differently
GRANTED_S: Final = 1.0  # ages are whole seconds: see JobRecord.is_owned

UPSERT: Final = """INSERT OR REPLACE INTO jobs VALUES (
    :key, :version, :written_at, :job, :state, :lease_s, :share, :eta_s, :labels, :body, :problem)"""
CONTAINS: Final = """(instr(lower(job), :text) OR instr(lower(labels), :text) OR EXISTS (
    SELECT 1 FROM json_each(CAST(body AS TEXT))
    WHERE key IN ('owner', 'workload', 'error') AND instr(lower(value), :text)))"""
MARKED: Final = """instr(CAST(body AS TEXT), '"archived":"')"""
STALE: Final = f"lease_s IS NOT NULL AND written_at + lease_s + {GRANTED_S} < :now"
ORDERS: Final = {
    "job": "job",
    "state": "state",
    "updated": "-written_at",
    "progress": "-share",
    "eta": "eta_s - (:now - written_at)",
}
"""What jobs may be sorted by."""


@frozen(kw_only=True)
class Query:
    """Which jobs, and in which order.

    Attributes:
        states: In one of these; empty: in any.
        labels: With all of these.
        stale: Only those whose owner's lease ran out.
        since_s: Only those whose record was written within so many seconds.
        before_s: Only those whose record was written longer ago than so many seconds, or is marked as archived.
        text: Only those with this in their id, label, owner, workload or error, in small letters or capitals.
        sort: One of ORDERS.
        backwards: The other way round.
        limit: So many at most; None: all.
        offset: Without the first so many.
    """

    states: Sequence[State] = ()
    labels: Mapping[str, str] = field(factory=dict)
    stale: bool = False
    since_s: float | None = None
    before_s: float | None = None
    text: str = ""
    sort: str = "job"
    backwards: bool = False
    limit: int | None = None
    offset: int = 0


EVERYTHING: Final = Query()


@define
class Refreshed:
    """What a refresh did: records listed, read, and gone; and the jobs whose records are not what they were."""

    listed: int = 0
    read: int = 0
    gone: int = 0
    changed: list[str] = field(factory=list)


class RecordIndex:
    """See the module. Safe to use from several threads, which need not wait for a refresh; a context manager.

    Args:
        env: Whose records.
        path: The file; None: in memory. One that cannot be used is made anew, or done without.
        jobs: Only of these, whether they exist or not; empty: of all that are listed.
    """

    def __init__(self, env: Environment, path: Path | None, jobs: Sequence[str] = ()) -> None:
        self._env = env
        self._only = tuple(dict.fromkeys(jobs))
        self._read = read_one if jobs else read_live
        self._refreshing = Lock()
        self.db = Database(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    def refresh(self, advance: Callable[[int], None] = lambda _: None) -> Refreshed:
        """Make it what the bucket holds now. What was read before a failure is kept.

        Args:
            advance: Told of so many more records that have been looked at.

        Raises:
            RetryableError: The bucket cannot be listed.
            ConfigError: Wrong bucket or credentials.
        """
        done, after = Refreshed(), ""
        listing = iter(self._named() if self._only else self._env.store.list(self._env.layout.records))
        with self._refreshing, ThreadPoolExecutor(READERS, thread_name_prefix="index") as pool:
            while page := list(islice(listing, PAGE)):
                self._take(page, after, done, pool)
                after = page[-1].key
                advance(len(page))
            done.gone += self._forget_after(after)
        return done

    def _named(self) -> Iterator[ListedObject]:
        """As if they had been listed, and changed."""
        keys = sorted(f"{self._env.layout.records}{job}.json" for job in self._only)
        return (ListedObject(key, 0, "", 0.0) for key in keys)

    def problems(self) -> list[str]:
        """Why records cannot be read, in the order of their jobs."""
        return [why for (why,) in self.db.rows("SELECT problem FROM jobs WHERE problem IS NOT NULL ORDER BY job", {})]

    def count(self, query: Query = EVERYTHING) -> dict[str, int]:
        """How many jobs of *query* there are in each state, most first; `unknown` for those that cannot be read."""
        condition, values = where(query, self._now_s())
        order = f"SELECT ifnull(state, 'unknown'), count(*) FROM jobs WHERE {condition} GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self.db.rows(order, values))

    def jobs(self, query: Query = EVERYTHING) -> Iterator[Found]:
        """The jobs of *query*, or why a job's record cannot be shown."""
        condition, values = where(query, self._now_s())
        order = f"{ORDERS[query.sort]} {'DESC' if query.backwards else 'ASC'} NULLS LAST, job"
        rows = self.db.rows(
            f"SELECT rowid FROM jobs WHERE {condition} ORDER BY {order} LIMIT :limit OFFSET :offset", values
        )
        chosen, now = [row for (row,) in rows], self._now_s()
        for start in range(0, len(chosen), PAGE):
            page = chosen[start : start + PAGE]
            wanted = ",".join(map(str, page))
            rows = self.db.rows(f"SELECT rowid, job, written_at, body, problem FROM jobs WHERE rowid IN ({wanted})", {})
            found = {row: _found(now, *rest) for row, *rest in rows}
            yield from (found[row] for row in page if row in found)

    def _now_s(self) -> float:
        return self._env.clock.now().timestamp()

    def _take(self, page: Sequence[ListedObject], after: str, done: Refreshed, pool: ThreadPoolExecutor) -> None:
        """Bring what is known of the keys from past *after* to the end of *page* up to what *page* says."""
        last, now = page[-1].key, self._now_s()
        rows = self.db.rows(
            "SELECT key, version, written_at FROM jobs WHERE key > :after AND key <= :last",
            {"after": after, "last": last},
        )
        known = {key: (version, written_at) for key, version, written_at in rows}
        here = {one.key for one in page}
        gone = [(key,) for key in known if key not in here]
        news = [one for one in page if not one.version or known.get(one.key, ("",))[0] != one.version]
        drifted = [
            (now - one.age_s, one.key)
            for one in page
            if one.key in known and abs(known[one.key][1] - (now - one.age_s)) > DRIFT_S
        ]
        layout = self._env.layout
        read = list(pool.map(lambda one: self._read_row(one, now), news))
        if gone or drifted or read:
            self.db.change(
                ("DELETE FROM jobs WHERE key = ?", gone),
                ("UPDATE jobs SET written_at = ? WHERE key = ?", drifted),
                (UPSERT, read),
            )
        done.listed += len(page)
        done.read += len(news)
        done.gone += len(gone)
        done.changed += (layout.job_of_record(one.key) for one in news)

    def _read_row(self, listed: ListedObject, listed_at: float) -> dict[str, Any]:
        """A record as it is kept.

        Its age is of the moment at which it was read, which may be long after the listing: taken for that one's, it
        would make all that was read slowly look changed at the next.
        """
        found = self._read(self._env, self._env.layout.job_of_record(listed.key))
        return _row(listed, self._now_s() if found.stored else listed_at, found)

    def _forget_after(self, key: str) -> int:
        return self.db.change(("DELETE FROM jobs WHERE key > ?", [(key,)]))


def _row(listed: ListedObject, now: float, found: Found) -> dict[str, Any]:
    """What is kept of a record that was just read."""
    record = found.stored.record if found.stored else None
    passing = found.problem is not None and found.is_passing
    return {
        "key": listed.key,
        "version": "" if passing else listed.version,
        "written_at": now - (found.stored.age_s if found.stored else listed.age_s),
        "job": found.job,
        "state": record and record.state.value,
        "lease_s": record.lease_s if record and record.state in OWNED else None,
        "share": record and share(record.progress),
        "eta_s": record and eta_s(record),
        "labels": json.dumps(dict(record.labels) if record else {}),
        "body": encode_record(record) if record else None,
        "problem": found.problem,
    }


def _found(now: float, job: str, written_at: float, body: bytes | None, problem: str | None) -> Found:
    if body is None:
        return Found(job, None, problem)
    return Found(job, StoredRecord(decode_record(body), "", max(now - written_at, 0.0)), problem)


def share(progress: Progress) -> float | None:
    """How much is done, of 1; None if nobody can know."""
    return progress.done / progress.total if progress.done is not None and progress.total else None


def eta_s(record: JobRecord) -> float | None:
    """Seconds from its last write to its end, if it goes on as it did; None if it does not run, or nobody can know."""
    progress = record.progress
    if record.state not in OWNED or not progress.rate or progress.done is None or not progress.total:
        return None
    return max(progress.total - progress.done, 0) / progress.rate


def where(query: Query, now: float) -> tuple[str, dict[str, Any]]:
    """The condition for SQLite, in a table whose columns are those of `jobs`, and its values."""
    parts = ["1"]
    limit = -1 if query.limit is None else query.limit
    values: dict[str, Any] = {"now": now, "limit": limit, "offset": query.offset}
    if query.states:
        parts.append(f"state IN ({','.join(repr(state.value) for state in query.states)})")
    if query.stale:
        parts.append(STALE)
    if query.since_s is not None:
        parts.append("written_at >= :now - :since")
        values["since"] = query.since_s
    if query.before_s is not None:
        parts.append(f"(written_at < :now - :before OR {MARKED})")
        values["before"] = query.before_s
    if query.text:
        parts.append(CONTAINS)
        values["text"] = query.text.lower()
    for number, (name, text) in enumerate(query.labels.items()):
        parts.append(f"EXISTS (SELECT 1 FROM json_each(labels) WHERE key = :name{number} AND value = :text{number})")
        values |= {f"name{number}": name, f"text{number}": text}
    return " AND ".join(parts), values
