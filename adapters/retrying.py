"""Retry calls of the queue and the store, as wrappers that are themselves ports.

A conditional put is sent exactly once: the core finds out whether it landed, by reading back.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.retrier import HEARTBEAT, ONCE, READ, RECEIVE, SEND, TRANSFER, WRITE, Retrier
from adapters.retry_listeners import RetryListeners
from lifecycle.errors import RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, Depth, JobQueue, Message, SendFailure
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version

PAGE_KEYS: Final = 1000  # keys in a page of the store's listing


class RetryingQueue:
    """A queue that retries calls where that can help.

    Args:
        queue: The queue.
        clock: Used for the pauses.
        listeners: Notified of each retry.
    """

    def __init__(self, queue: JobQueue, clock: Clock, listeners: RetryListeners | None = None) -> None:
        self._queue = queue
        self._retry = Retrier("queue", clock, listeners or RetryListeners())

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `JobQueue.receive`."""
        return self._retry(RECEIVE, "receive", self._queue.receive, hidden=hidden, wait=wait)

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """See `JobQueue.extend`. Tried twice in quick succession."""
        return self._retry(HEARTBEAT, "extend", self._queue.extend, delivery, hidden=hidden)

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See `JobQueue.release`."""
        self._retry(WRITE, "release", self._queue.release, delivery, delay=delay)

    def delete(self, delivery: Delivery) -> None:
        """See `JobQueue.delete`."""
        self._retry(WRITE, "delete", self._queue.delete, delivery)

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`. Sends again only the messages that were not accepted."""
        left = list(messages)

        def send() -> list[SendFailure]:
            nonlocal left
            failures = self._queue.send(left)
            left = [failure.message for failure in failures]
            return failures

        return self._retry(SEND, "send", send, retry_if=bool)

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See `JobQueue.dead_letter`. If a response is lost, there may be two copies."""
        return self._retry(WRITE, "dead-letter", self._queue.dead_letter, delivery, reason=reason)

    def receive_limit(self) -> int | None:
        """See `JobQueue.receive_limit`."""
        return self._retry(READ, "receive-limit", self._queue.receive_limit)

    def depth(self) -> Depth:
        """See `JobQueue.depth`."""
        return self._retry(READ, "depth", self._queue.depth)

    def purge(self) -> None:
        """See `JobQueue.purge`. Not retried: SQS refuses another purge for a minute."""
        self._retry(ONCE, "purge", self._queue.purge)


class RetryingStore:
    """A store that retries calls where that can help, but not conditional puts.

    Args:
        store: The store.
        clock: Used for the pauses.
        listeners: Notified of each retry.
    """

    def __init__(self, store: ObjectStore, clock: Clock, listeners: RetryListeners | None = None) -> None:
        self._store = store
        self._retry = Retrier("store", clock, listeners or RetryListeners())

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        return self._retry(READ, f"get {key}", self._store.get, key)

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`."""
        if expected is not None:
            return self._retry(ONCE, f"put {key}", self._store.put, key, body, expected=expected)
        return self._retry(WRITE, f"put {key}", self._store.put, key, body)

    def get_range(self, wanted: Range) -> bytes | None:
        """See `ObjectStore.get_range`."""
        return self._retry(TRANSFER, f"get {wanted}", self._store.get_range, wanted)

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`."""
        self._retry(TRANSFER, f"upload {key}", self._store.put_file, key, path)

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See `ObjectStore.assemble`."""
        return self._retry(TRANSFER, f"assemble {key}", self._store.assemble, key, parts)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See `ObjectStore.list`. A listing that breaks off is continued after the last key."""
        listing = _Listing(self._store, prefix)
        while page := self._retry(READ, f"list {prefix}", listing.page):
            yield from page

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        all_keys = tuple(keys)  # an iterator cannot be read twice
        self._retry(WRITE, "delete", self._store.delete, all_keys)


class _Listing:
    """A listing that continues after a failure: keys come in order, so the last key says where."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._last = ""
        self._rest: Iterator[ListedObject] | None = None

    def page(self) -> Sequence[ListedObject]:
        """Return the next keys; none at the end.

        Raises:
            RetryableError: No key was read; calling again is safe.
        """
        page: list[ListedObject] = []
        try:
            self._rest = self._rest or self._store.list(self._prefix)
            for listed in self._rest:
                if listed.key > self._last:
                    page.append(listed)
                if len(page) == PAGE_KEYS:
                    break
        except RetryableError:
            self._rest = None
            if not page:
                raise
        if page:
            self._last = page[-1].key
        return page


if TYPE_CHECKING:

    def _queue_conforms(queue: RetryingQueue) -> JobQueue:
        return queue

    def _store_conforms(store: RetryingStore) -> ObjectStore:
        return store
