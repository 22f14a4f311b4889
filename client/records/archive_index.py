"""What the archive holds, to be searched like the index of live jobs: by what its segments' contents say.

Contents never change, so each is read once, into the same SQLite file; records are read only of jobs that are shown, a
frame of some dozens at a time. A job that stands in two segments, after an archiving that died half-way, is shown once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from attrs import asdict, define, frozen
from zstandard import ZstdCompressor, ZstdError

from client.config.composition import Environment
from client.records.database import Database
from client.records.reader import READERS, Found
from client.records.record_index import EVERYTHING, ORDERS, Query, share, where
from lifecycle.errors import HoldfastError, PermanentError
from lifecycle.job_record import JobRecord
from lifecycle.record.archive_format import LEVEL, ArchivePosition, decompress_frame, read_frame
from lifecycle.record.record_store import StoredRecord
from lifecycle.serialization import strict_converter

PAGE: Final = 200  # jobs whose frames are in memory at once
READ_AT_ONCE: Final = 16
LARGEST_CONTENTS: Final = 1 << 28  # bytes, decompressed
UPSERT: Final = """INSERT OR REPLACE INTO archived VALUES (
    :job, :segment, :written_at, :job, :state, NULL, :share, NULL, :labels, NULL, NULL,
    :segment, :offset, :length, :line)"""


@frozen
class ArchiveEntry:
    """A line of a segment's contents: what a job can be found by, and where its record stands.

    Attributes:
        job: Its id.
        state: How it ended.
        at: When its record was last written, ISO 8601 UTC.
        share: Of its steps that were done.
        labels: Its labels.
        spot: Where.
    """

    job: str
    state: str
    at: str
    share: float | None
    labels: dict[str, str]
    spot: ArchivePosition


def entry(record: JobRecord, at: str, spot: ArchivePosition) -> ArchiveEntry:
    """The line for *record*, which stands at *spot*."""
    return ArchiveEntry(record.job, record.state.value, at, share(record.progress), dict(record.labels), spot)


def contents(entries: Iterable[ArchiveEntry]) -> bytes:
    """The object that tells what a segment holds."""
    lines = "".join(json.dumps(asdict(one), separators=(",", ":")) + "\n" for one in entries)
    return ZstdCompressor(level=LEVEL).compress(lines.encode())


@define
class ArchiveIndex:
    """The archive of *env*, searched by a copy in *db*. Answers the same questions as `RecordIndex`.

    Attributes:
        env: Whose.
        db: Where the copy is.
        jobs_only: Only of these; empty: of all.
        without_live: Whether jobs that still stand in the copy of the live records are left out.
    """

    env: Environment
    db: Database
    jobs_only: Sequence[str] = ()
    without_live: bool = False

    def refresh(self, advance: Callable[[int], None] = lambda _: None) -> None:
        """Read what segments' contents have not been read.

        Raises:
            RetryableError: The bucket cannot be read; what was read is kept.
            PermanentError: What a segment holds is not to be understood.
            ConfigError: Wrong bucket or credentials.
        """
        known = {key for (key,) in self.db.rows("SELECT key FROM segments", {})}
        there = [one.key for one in self.env.store.list(self.env.layout.archive_index)]
        self._forget(known.difference(there))
        news = iter(key for key in there if key not in known)
        with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="archive") as pool:
            while keys := list(islice(news, READ_AT_ONCE)):
                for key, rows in zip(keys, pool.map(self._rows_of, keys), strict=True):
                    self.db.change((UPSERT, rows), ("INSERT OR REPLACE INTO segments VALUES (?)", [(key,)]))
                    advance(len(rows))

    def count(self, query: Query = EVERYTHING) -> dict[str, int]:
        """How many jobs of *query* there are in each state, most first."""
        condition, values = self._where(query)
        order = f"SELECT state, count(*) FROM archived WHERE {condition} GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self.db.rows(order, values))

    def jobs(self, query: Query = EVERYTHING) -> Iterator[Found]:
        """The jobs of *query*, or why a job's record cannot be shown."""
        condition, values = self._where(query)
        order = f"{ORDERS[query.sort]} {'DESC' if query.backwards else 'ASC'} NULLS LAST, job"
        statement = f"SELECT rowid FROM archived WHERE {condition} ORDER BY {order} LIMIT :limit OFFSET :offset"
        chosen = [row for (row,) in self.db.rows(statement, values)]
        with ThreadPoolExecutor(READERS, thread_name_prefix="archive") as pool:
            for start in range(0, len(chosen), PAGE):
                yield from self._page(chosen[start : start + PAGE], pool)

    def problems(self) -> list[str]:
        """Why records cannot be shown: of an archive, that is only known when they are."""
        return []

    def _page(self, page: Sequence[int], pool: ThreadPoolExecutor) -> Iterator[Found]:
        columns = "rowid, job, written_at, segment, offset, length, line"
        wanted = ",".join(map(str, page))
        found = {
            row: rest for row, *rest in self.db.rows(f"SELECT {columns} FROM archived WHERE rowid IN ({wanted})", {})
        }
        places = {row: ArchivePosition(rest[2], rest[3], rest[4], rest[5]) for row, rest in found.items()}
        frames = list(dict.fromkeys((spot.segment, spot.offset, spot.length) for spot in places.values()))
        read = dict(zip(frames, pool.map(self._frame, frames), strict=True))
        now = self._now_s()
        for row in page:
            if row in found:
                job, written_at, *_ = found[row]
                spot = places[row]
                records = read[spot.segment, spot.offset, spot.length]
                if isinstance(records, str):
                    yield Found(job, None, f"{job}: {records}")
                else:
                    yield Found(job, StoredRecord(records[spot.line], "", max(now - written_at, 0.0)), None)

    def _frame(self, frame: tuple[str, int, int]) -> list[JobRecord] | str:
        segment, offset, length = frame
        try:
            return read_frame(self.env.store, self.env.layout, ArchivePosition(segment, offset, length, 0))
        except HoldfastError as error:
            return str(error)

    def _where(self, query: Query) -> tuple[str, dict[str, Any]]:
        condition, values = where(query, self._now_s())
        if self.without_live:
            condition += " AND job NOT IN (SELECT job FROM jobs)"
        if self.jobs_only:
            condition += " AND job IN (SELECT value FROM json_each(:only))"
            values["only"] = json.dumps(list(self.jobs_only))
        return condition, values

    def _now_s(self) -> float:
        return self.env.clock.now().timestamp()

    def _forget(self, keys: Iterable[str]) -> None:
        """The archive was purged since."""
        gone = [(key,) for key in keys]
        names = [(self._name(key),) for (key,) in gone]
        self.db.change(("DELETE FROM archived WHERE segment = ?", names), ("DELETE FROM segments WHERE key = ?", gone))

    def _name(self, key: str) -> str:
        return key.removeprefix(self.env.layout.archive_index).partition(".")[0]

    def _rows_of(self, key: str) -> list[dict[str, Any]]:
        stored = self.env.store.get(key)
        if stored is None:
            raise PermanentError(f"{key} is gone since it was listed; try again")
        try:
            lines = decompress_frame(stored.body, LARGEST_CONTENTS).splitlines()
            converter = strict_converter()
            return [_row(converter.structure(json.loads(line), ArchiveEntry)) for line in lines]
        except (ZstdError, ValueError, TypeError, ExceptionGroup) as error:
            raise PermanentError(f"{key} does not tell what a segment of the archive holds: {error}") from error


def _row(one: ArchiveEntry) -> dict[str, Any]:
    return {
        "job": one.job,
        "state": one.state,
        "share": one.share,
        "labels": json.dumps(one.labels),
        "written_at": datetime.fromisoformat(one.at).astimezone(UTC).timestamp(),
        **asdict(one.spot),
    }
