"""Moving the records of jobs that have been over for long from the live set to the archive.

The steps of a batch are in this order, so that power may fail after any of them and the next run finishes the batch:

1. Write the segment with all records of the batch, under a new name.
2. Mark each record as archived, by compare-and-swap. From then on it does not change. A record that was reopened
   meanwhile has another version and is left unchanged.
3. Write the segment's contents: the records that were marked.
4. Write a tombstone for each. From then on no worker starts the job again under its id.
5. Only then delete the records.

A marked record with a tombstone is only deleted; a marked record without one goes through all steps again. Deleting a
record late or twice loses nothing, because no worker uses its key again (see lifecycle/record/archive_format.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import SystemRandom
from typing import Final

from attrs import define, evolve, field, frozen

from client.config.environment import Environment
from client.records.archive_index import archive_entry, encode_contents
from lifecycle.errors import ConfigError, HoldfastError, VersionConflictError
from lifecycle.job_record import JobRecord, iso
from lifecycle.record.archive_format import ArchivePosition, Tombstone, is_archived, pack_segment, put_tombstone
from lifecycle.record.record_store import StoredRecord, WriteConflict

WORKERS: Final = 32


@frozen
class Candidate:
    """A record that is to be archived.

    Attributes:
        stored: The record as it is in the bucket.
        at: Time of its last write, ISO 8601 UTC, by this machine's clock and the store's age.
        has_tombstone: Its tombstone exists, so only the record is left to delete.
    """

    stored: StoredRecord
    at: str
    has_tombstone: bool

    @property
    def job(self) -> str:
        """The job's id."""
        return self.stored.record.job


@define
class ArchiveResult:
    """Counts of a run.

    Attributes:
        gone: Archived jobs, by state.
        size_bytes: Size of the segments written.
        problems: A line for each job that could not be archived.
    """

    gone: Counter[str] = field(factory=Counter)
    size_bytes: int = 0
    problems: list[str] = field(factory=list)


def is_ripe(env: Environment, stored: StoredRecord, older: timedelta) -> bool:
    """Return True if the job has been over for *older* with nothing left to do, or if an earlier run marked it.

    Undelivered notices are something left to do, if a webhook is configured: `holdfast reconcile` delivers them. A
    record of unknown age is ripe only if *older* is zero.
    """
    record = stored.record
    has_notices = env.notification_policy is not None and bool(record.outbox.notices)
    is_old = (stored.age_s or 0.0) >= older.total_seconds() and not has_notices
    return record.is_settled and (record.archived is not None or is_old)


def archive_batch(
    env: Environment, records: Iterable[JobRecord], older: timedelta, result: ArchiveResult
) -> Iterator[JobRecord]:
    """Archive those of *records* that are still ripe, in one segment; yield each record that was archived.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
        RetryableError: The bucket cannot be reached; the next run finishes the batch.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="archive") as pool:
        found = pool.map(lambda record: _candidate(env, record.job, older, result), records)
        candidates = [one for one in found if one is not None]
        fresh = [one for one in candidates if not one.has_tombstone]
        buried = [one for one in candidates if one.has_tombstone]
        if fresh:
            name = f"{env.clock.now():%Y%m%dT%H%M%S}-{SystemRandom().getrandbits(64):016x}"
            body, positions = pack_segment(name, [evolve(one.stored.record, archived=None) for one in fresh])
            env.store.put(env.layout.segment(name), body)
            marks = pool.map(lambda one: _mark(env, one, name, result), fresh)
            marked = [(one, position) for one, position, ok in zip(fresh, positions, marks, strict=True) if ok]
            if marked:
                entries = (archive_entry(one.stored.record, one.at, position) for one, position in marked)
                env.store.put(env.layout.contents(name), encode_contents(entries))
                tombstones = pool.map(lambda each: _bury(env, each[0], each[1], result), marked)
                buried += [one for (one, _), ok in zip(marked, tombstones, strict=True) if ok]
            result.size_bytes += len(body)
    env.store.delete([env.layout.job(one.job).record for one in buried])
    yield from (one.stored.record for one in buried)


def _candidate(env: Environment, job: str, older: timedelta, result: ArchiveResult) -> Candidate | None:
    """Read the record again, because the index is a copy; return None if it is no longer to be archived."""
    keys = env.layout.job(job)
    try:
        stored = env.record_store.read(keys.record)
        if stored is None or stored.record.job != job or not is_ripe(env, stored, older):
            return None
        at = iso(env.clock.now() - timedelta(seconds=stored.age_s or 0.0))
        # A record without attempts may belong to an id that was used twice.
        may_have_tombstone = stored.record.archived is not None or not stored.record.attempts
        return Candidate(stored, at, may_have_tombstone and is_archived(env.store, keys))
    except HoldfastError as error:
        _add_problem(job, error, result)
        return None


def _mark(env: Environment, one: Candidate, name: str, result: ArchiveResult) -> bool:
    """Mark the record as archived so that it no longer changes; return False if it changed before that."""
    if one.stored.record.archived is not None:
        return True  # by a run that died; the record has not changed since
    try:
        marked = evolve(one.stored.record, archived=name)
        answer = env.record_store.write(env.layout.job(one.job).record, marked, one.stored.version)
        return not isinstance(answer, WriteConflict)
    except HoldfastError as error:
        _add_problem(one.job, error, result)
        return False


def _bury(env: Environment, one: Candidate, position: ArchivePosition, result: ArchiveResult) -> bool:
    """Write the tombstone if there is none; return False if it may not exist."""
    try:
        put_tombstone(env.store, env.layout.job(one.job), Tombstone(one.job, position, one.at))
    except VersionConflictError:
        return True
    except HoldfastError as error:
        _add_problem(one.job, error, result)
        return False
    return True


def _add_problem(job: str, error: HoldfastError, result: ArchiveResult) -> None:
    if isinstance(error, ConfigError):
        raise error
    result.problems.append(f"{job}: not archived: {error}; run it again")
