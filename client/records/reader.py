"""Reading many records at once. What a key or a record says is not believed before it is checked: it becomes a path."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from attrs import frozen

from client.config.composition import Environment
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError
from lifecycle.key_layout import is_job_id
from lifecycle.record.archive_format import read_frame, read_tombstone
from lifecycle.record.record_store import StoredRecord

READERS: Final = 16


@frozen
class Found:
    """A job, and its record or why there is none to show.

    Attributes:
        job: Its id, as it was asked for.
        stored: Its record.
        problem: Why there is none.
        is_passing: Whether there may be one another time.
        is_absent: Whether the store says that there is none.
    """

    job: str
    stored: StoredRecord | None
    problem: str | None
    is_passing: bool = False
    is_absent: bool = False


def read_all(env: Environment, jobs: Sequence[str] = ()) -> Iterator[Found]:
    """The records of *jobs* (of all, if empty), each once, read in parallel, in order.

    A `Found` with a record has a job id that is one, and that the record bears too: it is safe in a path.

    Raises:
        RetryableError: The bucket cannot be listed.
        ConfigError: Wrong bucket or credentials.
    """
    listed = (env.layout.job_of_record(one.key) for one in ([] if jobs else env.store.list(env.layout.records)))
    names = list(dict.fromkeys(jobs or listed))
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(lambda job: (read_one if jobs else read_live)(env, job), names)


def read_one(env: Environment, job: str) -> Found:
    """One job's record, from the archive if that is where it is; or what is wrong with it.

    Raises:
        ConfigError: Wrong bucket or credentials.
    """
    live = read_live(env, job)
    if live.stored or not live.is_absent:
        return live
    try:
        return from_archive(env, job) or live
    except ConfigError:
        raise
    except HoldfastError as error:
        return Found(job, None, str(error), is_passing=isinstance(error, RetryableError))


def from_archive(env: Environment, job: str) -> Found | None:
    """An archived job's record; None if there is none.

    Raises:
        RetryableError: It cannot be read.
        PermanentError: What should be there is not, or is damaged.
        ConfigError: Wrong bucket or credentials.
    """
    tombstone = read_tombstone(env.store, env.layout.job(job))
    if tombstone is None:
        return None
    records = read_frame(env.store, env.layout, tombstone.spot)
    record = records[tombstone.spot.line] if tombstone.spot.line < len(records) else None
    if record is None or record.job != job:
        raise PermanentError(f"the archive's segment {tombstone.spot.segment} does not hold {job!r} where it should")
    return Found(job, StoredRecord(record, "", _age_s(env, tombstone.at)), None)


def _age_s(env: Environment, at: str) -> float:
    try:
        return max((env.clock.now() - datetime.fromisoformat(at)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def read_live(env: Environment, job: str) -> Found:
    """One live job's record, or what is wrong with it.

    Raises:
        ConfigError: Wrong bucket or credentials.
    """
    if not is_job_id(job):
        return Found(job, None, f"{job!r} is no job id")
    try:
        stored = env.record_store.read(env.layout.job(job).record)
    except ConfigError:
        raise
    except HoldfastError as error:
        return Found(job, None, str(error), is_passing=isinstance(error, RetryableError))
    if stored is None:
        return Found(job, None, f"there is no job {job!r} under prefix {env.layout.prefix!r}", is_absent=True)
    if stored.record.job != job:
        return Found(job, None, f"the record of {job!r} says that it is {stored.record.job!r:.140}: left alone")
    return Found(job, stored, None)
