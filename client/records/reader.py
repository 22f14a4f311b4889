"""Reading job records, one or many.

A job id becomes part of a path, so neither a key nor a record's own id is trusted before it is checked.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from attrs import frozen

from client.config.environment import Environment
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError
from lifecycle.key_layout import is_job_id
from lifecycle.record.archive_format import read_frame, read_tombstone
from lifecycle.record.record_store import StoredRecord

READERS: Final = 16


@frozen
class Lookup:
    """A job, and its record or the reason why that cannot be shown.

    Attributes:
        job: The job's id, as asked for.
        stored: Its record.
        problem: Why there is no record to show.
        is_transient: The problem may go away by itself.
        is_missing: The store says that there is no record.
    """

    job: str
    stored: StoredRecord | None
    problem: str | None
    is_transient: bool = False
    is_missing: bool = False


def read_all(env: Environment, jobs: Sequence[str] = ()) -> Iterator[Lookup]:
    """Read the records of *jobs* (of all jobs, if empty), in parallel; yield each once, in order.

    If a `Lookup` has a record, its job id is valid and is also the record's own, so it is safe in a path.

    Raises:
        RetryableError: The bucket cannot be listed.
        ConfigError: The bucket or its credentials are wrong.
    """
    listed = (env.layout.job_of_record(one.key) for one in ([] if jobs else env.store.list(env.layout.records)))
    names = list(dict.fromkeys(jobs or listed))
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(lambda job: (read_job if jobs else read_live)(env, job), names)


def read_job(env: Environment, job: str) -> Lookup:
    """Read a job's record, live or archived.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
    """
    live = read_live(env, job)
    if live.stored or not live.is_missing:
        return live
    try:
        return read_archived(env, job) or live
    except ConfigError:
        raise
    except HoldfastError as error:
        return Lookup(job, None, str(error), is_transient=isinstance(error, RetryableError))


def read_archived(env: Environment, job: str) -> Lookup | None:
    """Read an archived job's record; return None if the job is not archived.

    Raises:
        RetryableError: The record cannot be read.
        PermanentError: The record is not where its tombstone says, or is damaged.
        ConfigError: The bucket or its credentials are wrong.
    """
    tombstone = read_tombstone(env.store, env.layout.job(job))
    if tombstone is None:
        return None
    records = read_frame(env.store, env.layout, tombstone.spot)
    record = records[tombstone.spot.line] if tombstone.spot.line < len(records) else None
    if record is None or record.job != job:
        raise PermanentError(f"the archive's segment {tombstone.spot.segment} does not hold {job!r} where it should")
    return Lookup(job, StoredRecord(record, "", _age_s(env, tombstone.at)), None)


def _age_s(env: Environment, at: str) -> float:
    try:
        return max((env.clock.now() - datetime.fromisoformat(at)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def read_live(env: Environment, job: str) -> Lookup:
    """Read a live job's record.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
    """
    if not is_job_id(job):
        return Lookup(job, None, f"{job!r} is not a valid job id")
    try:
        stored = env.record_store.read(env.layout.job(job).record)
    except ConfigError:
        raise
    except HoldfastError as error:
        return Lookup(job, None, str(error), is_transient=isinstance(error, RetryableError))
    if stored is None:
        return Lookup(job, None, f"there is no job {job!r} under prefix {env.layout.prefix!r}", is_missing=True)
    if stored.record.job != job:
        return Lookup(job, None, f"the record of {job!r} names another job, {stored.record.job!r:.140}: left unchanged")
    return Lookup(job, stored, None)
