"""The record index: a local copy of all job records, for questions about many jobs.

A refresh lists the records, one request per thousand, and reads only those whose version has changed since they were
last read, so its cost is proportional to what has changed. The copy is an SQLite file in the user's cache folder, one
per bucket and prefix, or in memory only. It is never authoritative: code that decides anything reads the record.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

from attrs import define, field

from client.config.environment import Environment
from client.records.database import Database
from client.records.estimates import eta_s, share_done
from client.records.query import EVERYTHING, Query, where
from client.records.reader import READERS, Lookup, read_job, read_live
from lifecycle.errors import InvalidRecordError
from lifecycle.ports.store import ListedObject
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED

PAGE: Final = 1000
DRIFT_S: Final = 2.0  # ages in two listings of the same version differ by up to this much

UPSERT: Final = """INSERT OR REPLACE INTO jobs VALUES (
    :key, :version, :written_at, :job, :state, :lease_s, :share, :eta_s, :labels, :body, :problem)"""


@define
class RefreshResult:
    """Counts of a refresh.

    Attributes:
        listed: Records in the listing.
        read: Records that were new or changed, and were read.
        gone: Records that are no longer there.
        changed: Jobs of the records that were read.
    """

    listed: int = 0
    read: int = 0
    gone: int = 0
    changed: list[str] = field(factory=list)


class RecordIndex:
    """A copy of job records that can be queried; see the module. Thread-safe, and a context manager.

    Queries do not wait for a refresh that another thread is doing.

    Args:
        env: The environment whose records are copied.
        path: The SQLite file; None: in memory. An unusable file is replaced, or else memory is used.
        jobs: Copy only these jobs, whether they exist or not; empty: all jobs that are listed.
    """

    def __init__(self, env: Environment, path: Path | None, jobs: Sequence[str] = ()) -> None:
        self._env = env
        self._only = tuple(dict.fromkeys(jobs))
        self._read = read_job if jobs else read_live
        self._refresh_lock = Lock()
        self.db = Database(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    def refresh(self, advance: Callable[[int], None] = lambda _: None) -> RefreshResult:
        """Bring the copy up to date with the bucket. If this fails, records already read are kept.

        Args:
            advance: Called with the number of records processed since its last call.

        Raises:
            RetryableError: The bucket cannot be listed.
            ConfigError: The bucket or its credentials are wrong.
        """
        result, after = RefreshResult(), ""
        listing = iter(self._named() if self._only else self._env.store.list(self._env.layout.records))
        with self._refresh_lock, ThreadPoolExecutor(READERS, thread_name_prefix="index") as pool:
            while page := list(islice(listing, PAGE)):
                self._update(page, after, result, pool)
                after = page[-1].key
                advance(len(page))
            result.gone += self._delete_after(after)
        return result

    def _named(self) -> Iterator[ListedObject]:
        """Return a listing of the jobs given by name, without versions, so that each is read."""
        keys = sorted(f"{self._env.layout.records}{job}.json" for job in self._only)
        return (ListedObject(key, 0, "", 0.0) for key in keys)

    def problems(self) -> list[str]:
        """Return the reasons why records cannot be read, in the order of their jobs."""
        return [why for (why,) in self.db.rows("SELECT problem FROM jobs WHERE problem IS NOT NULL ORDER BY job", {})]

    def count(self, query: Query = EVERYTHING) -> dict[str, int]:
        """Count the jobs of *query* by state, largest first; unreadable records count as `unknown`."""
        condition, values = where(query, self._now_s())
        statement = (
            f"SELECT ifnull(state, 'unknown'), count(*) FROM jobs WHERE {condition} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        return dict(self.db.rows(statement, values))

    def jobs(self, query: Query = EVERYTHING) -> Iterator[Lookup]:
        """Yield the jobs of *query*, each with its record or the reason why that cannot be read."""
        condition, values = where(query, self._now_s())
        statement = f"SELECT rowid FROM jobs WHERE {condition} ORDER BY {query.order} LIMIT :limit OFFSET :offset"
        selected, now = [row for (row,) in self.db.rows(statement, values)], self._now_s()
        for start in range(0, len(selected), PAGE):
            page = selected[start : start + PAGE]
            ids = ",".join(map(str, page))
            rows = self.db.rows(f"SELECT rowid, job, written_at, body, problem FROM jobs WHERE rowid IN ({ids})", {})
            found = {row: _lookup(now, *rest) for row, *rest in rows}
            yield from (found[row] for row in page if row in found)

    def _now_s(self) -> float:
        return self._env.clock.now().timestamp()

    def _update(
        self, page: Sequence[ListedObject], after: str, result: RefreshResult, pool: ThreadPoolExecutor
    ) -> None:
        """Bring the rows of all keys later than *after*, up to the end of *page*, up to date with *page*."""
        last, now = page[-1].key, self._now_s()
        rows = self.db.rows(
            "SELECT key, version, written_at FROM jobs WHERE key > :after AND key <= :last",
            {"after": after, "last": last},
        )
        known = {key: (version, written_at) for key, version, written_at in rows}
        listed_keys = {one.key for one in page}
        gone = [(key,) for key in known if key not in listed_keys]
        changed = [one for one in page if not one.version or known.get(one.key, ("",))[0] != one.version]
        drifted = [
            (now - one.age_s, one.key)
            for one in page
            if one.key in known and one.age_s is not None and abs(known[one.key][1] - (now - one.age_s)) > DRIFT_S
        ]
        layout = self._env.layout
        read = list(pool.map(lambda one: self._read_row(one, now), changed))
        if gone or drifted or read:
            self.db.change(
                ("DELETE FROM jobs WHERE key = ?", gone),
                ("UPDATE jobs SET written_at = ? WHERE key = ?", drifted),
                (UPSERT, read),
            )
        result.listed += len(page)
        result.read += len(changed)
        result.gone += len(gone)
        result.changed += (layout.job_of_record(one.key) for one in changed)

    def _read_row(self, listed: ListedObject, listed_at: float) -> dict[str, Any]:
        """Read a record and return its row.

        A record's age is as of the moment of reading, which may be long after the listing. If it were taken as of the
        listing, each record that was read slowly would look changed at the next refresh.
        """
        found = self._read(self._env, self._env.layout.job_of_record(listed.key))
        return _row(listed, self._now_s() if found.stored else listed_at, found)

    def _delete_after(self, key: str) -> int:
        return self.db.change(("DELETE FROM jobs WHERE key > ?", [(key,)]))


def _row(listed: ListedObject, now: float, found: Lookup) -> dict[str, Any]:
    """Return the row for a record that was just read."""
    record = found.stored.record if found.stored else None
    read_again = found.problem is not None and found.is_transient
    age_s = found.stored.age_s if found.stored else listed.age_s
    return {
        "key": listed.key,
        "version": "" if read_again else listed.version,
        "written_at": now - (age_s or 0.0),  # if the store tells no age, that is the time since this version was seen
        "job": found.job,
        "state": record and record.state.value,
        "lease_s": record.lease_s if record and record.state in OWNED else None,
        "share": record and share_done(record.progress),
        "eta_s": record and eta_s(record),
        "labels": json.dumps(dict(record.labels) if record else {}),
        "body": encode_record(record) if record else None,
        "problem": found.problem,
    }


def _lookup(now: float, job: str, written_at: float, body: bytes | None, problem: str | None) -> Lookup:
    if body is None:
        return Lookup(job, None, problem)
    try:
        record = decode_record(body)
    except InvalidRecordError as error:  # a version with other bounds wrote the copy
        return Lookup(job, None, f"{job}: {error}")
    return Lookup(job, StoredRecord(record, "", max(now - written_at, 0.0)), problem)
