"""Workers for the buckets that messages name, for a worker without a bucket of its own.

The SaladCloud demo's images are started without a bucket: each of its messages names one. For these messages only, a
bucket is opened when the first message names it, and passes the preflight check once. All buckets share the node, the
queue and the limits, so a worker of one bucket is like any other.
"""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from lifecycle.record.message import bucket_of
from lifecycle.record.signing import Signer


class Drainable(Protocol):
    """A worker that can be drained."""

    def drain(self) -> None:
        """Take no more jobs."""


W = TypeVar("W", bound=Drainable)


class BucketWorkers(Generic[W]):
    """One worker for each bucket that was named so far.

    Args:
        make: Makes the worker of a bucket, after the preflight check.
        signer: Verifies messages.
    """

    def __init__(self, make: Callable[[str], W], signer: Signer) -> None:
        self._make = make
        self._signer = signer
        self._workers: dict[str, W] = {}
        self._draining = False

    def __iter__(self) -> Iterator[W]:
        return iter(tuple(self._workers.values()))

    def drain(self) -> None:
        """Drain all workers, and those that are made later. Safe from a signal handler, and to repeat."""
        self._draining = True
        for worker in self:
            worker.drain()

    def worker_for(self, body: str) -> W:
        """Return the worker of the bucket that a message names.

        Raises:
            RejectedMessageError: It is not a message of the demo, or not signed as required.
            ConfigError: The bucket cannot be used.
            RetryableError: The bucket cannot be reached.
        """
        bucket = bucket_of(body, self._signer)
        if bucket not in self._workers:
            self._workers[bucket] = self._make(bucket)
        worker = self._workers[bucket]
        if self._draining:
            worker.drain()
        return worker
