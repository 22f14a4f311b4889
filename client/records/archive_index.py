"""The archive index: a local copy of the contents of the archive's segments, queried like the record index.

A segment never changes, so its contents are read once, into the same SQLite file. Records are read only for jobs that
are shown, a frame of some dozens at a time. A job in two segments, after an interrupted archiving, is shown once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from attrs import asdict, define, frozen
from zstandard import ZstdCompressor, ZstdError

from client.config.environment import Environment
from client.records.database import Database
from client.records.estimates import share_done
from client.records.query import EVERYTHING, Query, where
from client.records.reader import READERS, Lookup
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
    """A line of a segment's contents: the fields that a job can be found by, and the position of its record.

    Attributes:
        job: The job's id.
        state: Its final state.
        at: Time of the record's last write, ISO 8601 UTC.
        share: Share of its work that was done.
        labels: Its labels.
        spot: Position of its record.
    """

    job: str
    state: str
    at: str
    share: float | None
    labels: dict[str, str]
    spot: ArchivePosition


def archive_entry(record: JobRecord, at: str, position: ArchivePosition) -> ArchiveEntry:
    """Return the line for *record*, last written *at*, whose archived copy is at *position*."""
    return ArchiveEntry(record.job, record.state.value, at, share_done(record.progress), dict(record.labels), position)


def encode_contents(entries: Iterable[ArchiveEntry]) -> bytes:
    """Return the body of the object that lists a segment's contents."""
    lines = "".join(json.dumps(asdict(one), separators=(",", ":")) + "\n" for one in entries)
    return ZstdCompressor(level=LEVEL).compress(lines.encode())


@define
class ArchiveIndex:
    """A copy of the archive's contents; answers the same queries as `RecordIndex`.

    Attributes:
        env: The environment whose archive is copied.
        db: The database that holds the copy.
        jobs_only: Only these jobs; empty: all.
        without_live: Leave out jobs that are also in the record index.
    """

    env: Environment
    db: Database
    jobs_only: Sequence[str] = ()
    without_live: bool = False

    def refresh(self, advance: Callable[[int], None] = lambda _: None) -> None:
        """Read the contents of segments that are not in the copy yet. If this fails, contents already read are kept.

        Args:
            advance: Called with the number of jobs added since its last call.

        Raises:
            RetryableError: The bucket cannot be read.
            PermanentError: A segment's contents are damaged.
            ConfigError: The bucket or its credentials are wrong.
        """
        known = {key for (key,) in self.db.rows("SELECT key FROM segments", {})}
        there = [one.key for one in self.env.store.list(self.env.layout.archive_index)]
        self._forget(known.difference(there))
        new = iter(key for key in there if key not in known)
        with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="archive") as pool:
            while keys := list(islice(new, READ_AT_ONCE)):
                for key, rows in zip(keys, pool.map(self._rows_of, keys), strict=True):
                    self.db.change((UPSERT, rows), ("INSERT OR REPLACE INTO segments VALUES (?)", [(key,)]))
                    advance(len(rows))

    def count(self, query: Query = EVERYTHING) -> dict[str, int]:
        """Count the jobs of *query* by state, largest first."""
        condition, values = self._where(query)
        statement = f"SELECT state, count(*) FROM archived WHERE {condition} GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self.db.rows(statement, values))

    def jobs(self, query: Query = EVERYTHING) -> Iterator[Lookup]:
        """Yield the jobs of *query*, each with its record or the reason why that cannot be read."""
        condition, values = self._where(query)
        statement = f"SELECT rowid FROM archived WHERE {condition} ORDER BY {query.order} LIMIT :limit OFFSET :offset"
        selected = [row for (row,) in self.db.rows(statement, values)]
        with ThreadPoolExecutor(READERS, thread_name_prefix="archive") as pool:
            for start in range(0, len(selected), PAGE):
                yield from self._page(selected[start : start + PAGE], pool)

    def problems(self) -> list[str]:
        """Return an empty list: a problem with an archived record is found only when `jobs` reads it."""
        return []

    def _page(self, page: Sequence[int], pool: ThreadPoolExecutor) -> Iterator[Lookup]:
        columns = "rowid, job, written_at, segment, offset, length, line"
        ids = ",".join(map(str, page))
        found = {row: rest for row, *rest in self.db.rows(f"SELECT {columns} FROM archived WHERE rowid IN ({ids})", {})}
        positions = {row: ArchivePosition(rest[2], rest[3], rest[4], rest[5]) for row, rest in found.items()}
        frames = list(dict.fromkeys((one.segment, one.offset, one.length) for one in positions.values()))
        read = dict(zip(frames, pool.map(self._frame, frames), strict=True))
        now = self._now_s()
        for row in page:
            if row in found:
                job, written_at, *_ = found[row]
                position = positions[row]
                records = read[position.segment, position.offset, position.length]
                if isinstance(records, str):
                    yield Lookup(job, None, f"{job}: {records}")
                else:
                    yield Lookup(job, StoredRecord(records[position.line], "", max(now - written_at, 0.0)), None)

    def _frame(self, frame: tuple[str, int, int]) -> list[JobRecord] | str:
        """Return the records of a frame, or the reason why it cannot be read."""
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
        """Delete the rows of segments that are gone, because the bucket was purged."""
        gone = [(key,) for key in keys]
        names = [(self._name(key),) for (key,) in gone]
        self.db.change(("DELETE FROM archived WHERE segment = ?", names), ("DELETE FROM segments WHERE key = ?", gone))

    def _name(self, key: str) -> str:
        return key.removeprefix(self.env.layout.archive_index).partition(".")[0]

    def _rows_of(self, key: str) -> list[dict[str, Any]]:
        stored = self.env.store.get(key)
        if stored is None:
            raise PermanentError(f"{key} was deleted after it was listed; try again")
        try:
            lines = decompress_frame(stored.body, LARGEST_CONTENTS).splitlines()
            converter = strict_converter()
            return [_row(converter.structure(json.loads(line), ArchiveEntry)) for line in lines]
        except (ZstdError, ValueError, TypeError, OverflowError, RecursionError, ExceptionGroup) as error:
            raise PermanentError(f"{key} is not a valid list of an archive segment's contents: {error}") from error


def _row(one: ArchiveEntry) -> dict[str, Any]:
    return {
        "job": one.job,
        "state": one.state,
        "share": one.share,
        "labels": json.dumps(one.labels),
        "written_at": datetime.fromisoformat(one.at).astimezone(UTC).timestamp(),
        **asdict(one.spot),
    }
