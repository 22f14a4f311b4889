"""Reading many records at once. What a key or a record says is not believed before it is checked: it becomes a path."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from attrs import frozen

from client.bootstrap import Site
from lifecycle.errors import ConfigError, HoldfastError, RetryableError
from lifecycle.keys import is_job_id
from lifecycle.ledger import Held

READERS: Final = 16


@frozen
class Found:
    """A job, and its record or why there is none to show; `is_passing` where that may be another time."""

    job: str
    held: Held | None
    problem: str | None
    is_passing: bool = False


def read_all(site: Site, jobs: Sequence[str] = ()) -> Iterator[Found]:
    """The records of *jobs* (of all, if empty), each once, read in parallel, in order.

    A `Found` with a record has a job id that is one, and that the record bears too: it is safe in a path.

    Raises:
        RetryableError: The bucket cannot be listed.
        ConfigError: Wrong bucket or credentials.
    """
    listed = (site.place.job_of_record(one.key) for one in ([] if jobs else site.store.list(site.place.records)))
    names = list(dict.fromkeys(jobs or listed))
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(lambda job: read_one(site, job), names)


def read_one(site: Site, job: str) -> Found:
    """One job's record, or what is wrong with it.

    Raises:
        ConfigError: Wrong bucket or credentials.
    """
    if not is_job_id(job):
        return Found(job, None, f"{job!r} is no job id")
    try:
        held = site.ledger.read(site.place.job(job).record)
    except ConfigError:
        raise
    except HoldfastError as error:
        return Found(job, None, str(error), is_passing=isinstance(error, RetryableError))
    if held is None:
        return Found(job, None, f"there is no job {job!r} under prefix {site.place.prefix!r}")
    if held.record.job != job:
        return Found(job, None, f"the record of {job!r} says that it is {held.record.job!r:.140}: left alone")
    return Found(job, held, None)
