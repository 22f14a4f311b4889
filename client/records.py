"""Reading many records at once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from attrs import frozen

from client.bootstrap import Site
from lifecycle.errors import HoldfastError
from lifecycle.ledger import Held

READERS: Final = 16


@frozen
class Found:
    """A job, and its record or why there is none to show."""

    job: str
    held: Held | None
    problem: str | None


def read_all(site: Site, jobs: Sequence[str] = ()) -> Iterator[Found]:
    """The records of *jobs* (of all, if empty), read in parallel, in order.

    Raises:
        RetryableError: The bucket cannot be listed.
    """
    names = list(jobs) or [site.place.job_of_record(listed.key) for listed in site.store.list(site.place.records)]

    def read(job: str) -> Found:
        try:
            held = site.ledger.read(site.place.job(job).record)
        except HoldfastError as error:
            return Found(job, None, str(error))
        return Found(job, held, None if held else f"there is no job {job!r} under prefix {site.place.prefix!r}")

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(read, names)
