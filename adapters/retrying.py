"""Retry calls of the queue and the store, as wrappers that are themselves ports.

No other code decides what is sent again and how often. There is one policy per kind of call. Only `RetryableError` is
retried, because calling again changes no other error. A conditional put is sent exactly once: the core finds out
whether it landed, by reading back.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import frozen
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_random_exponential,
)

from adapters.retry_listeners import RetryListeners
from lifecycle.errors import RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, Depth, JobQueue, Message, SendFailure
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version
from lifecycle.structured_log import StructuredLogger

T = TypeVar("T")

PAGE_KEYS: Final = 1000  # keys in a page of the store's listing

log = StructuredLogger("holdfast.retrying")


@frozen(kw_only=True)
class RetryPolicy:
    """Number of attempts for a kind of call, and the pauses between them: random, with a bound that doubles.

    Attributes:
        attempts: Attempts in all, the first included.
        first_s: Upper bound of the first pause, in seconds.
        longest_s: Upper bound of every pause, in seconds.
    """

    attempts: int
    first_s: float
    longest_s: float


# A heartbeat waits for a read: with time-outs of 8 s, all attempts take less than 40 s.
READ: Final = RetryPolicy(attempts=4, first_s=0.5, longest_s=4)
WRITE: Final = RetryPolicy(attempts=5, first_s=1.0, longest_s=8)  # R2 accepts one write per second to a key
TRANSFER: Final = RetryPolicy(attempts=3, first_s=1.0, longest_s=8)  # the adapter repeats the parts itself
HEARTBEAT: Final = RetryPolicy(attempts=2, first_s=0.2, longest_s=0.2)  # the next heartbeat is the better retry
RECEIVE: Final = RetryPolicy(attempts=2, first_s=0.5, longest_s=0.5)  # the worker asks again after checking signals
SEND: Final = RetryPolicy(attempts=6, first_s=1.0, longest_s=15)


class RetryingQueue:
    """A queue that retries calls where that can help.

    Args:
        queue: The queue.
        clock: Used for the pauses.
        listeners: Notified of each retry.
    """

    def __init__(self, queue: JobQueue, clock: Clock, listeners: RetryListeners | None = None) -> None:
        self._queue = queue
        self._retry = _Retrier("queue", clock, listeners or RetryListeners())

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

    def depth(self) -> Depth:
        """See `JobQueue.depth`."""
        return self._retry(READ, "depth", self._queue.depth)

    def purge(self) -> None:
        """See `JobQueue.purge`. Not retried: SQS refuses another purge for a minute."""
        self._queue.purge()


class RetryingStore:
    """A store that retries calls where that can help, but not conditional puts.

    Args:
        store: The store.
        clock: Used for the pauses.
        listeners: Notified of each retry.
    """

    def __init__(self, store: ObjectStore, clock: Clock, listeners: RetryListeners | None = None) -> None:
        self._store = store
        self._retry = _Retrier("store", clock, listeners or RetryListeners())

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        return self._retry(READ, f"get {key}", self._store.get, key)

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`."""
        if expected is not None:
            return self._store.put(key, body, expected=expected)
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


@frozen
class _Retrier:
    """Makes calls of one port until they succeed or the policy is exhausted."""

    port: str
    clock: Clock
    listeners: RetryListeners

    def __call__(
        self,
        policy: RetryPolicy,
        name: str,
        call: Callable[..., T],
        *args: Any,
        retry_if: Callable[[T], bool] | None = None,
        **kwargs: Any,
    ) -> T:
        """Make *call* as often as *policy* allows; the last result or error is the outcome.

        Args:
            policy: Number of attempts, and pauses.
            name: Method and key, for the log; the first word is the method.
            call: The method to call; safe to repeat.
            args: Its positional arguments.
            retry_if: Returns True for a result that is not yet a success.
            kwargs: Its keyword arguments.
        """
        condition: Any = retry_if_exception_type(RetryableError)
        if retry_if is not None:
            condition |= retry_if_result(retry_if)
        retrying = Retrying(
            sleep=self.clock.sleep,
            stop=stop_after_attempt(policy.attempts),
            wait=wait_random_exponential(multiplier=policy.first_s, max=policy.longest_s),
            retry=condition,
            before_sleep=lambda state: self._report(policy, name, state),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
        )
        return retrying(call, *args, **kwargs)

    def _report(self, policy: RetryPolicy, name: str, state: RetryCallState) -> None:
        outcome = state.outcome
        error = outcome.exception() if outcome is not None and outcome.failed else None
        self.listeners.notify(f"{self.port} {name.partition(' ')[0]}", error)
        log.warning(
            "call.retried",
            call=name,
            attempt=state.attempt_number,
            attempts=policy.attempts,
            error=str(error or "some messages were not accepted"),
            pause_s=round(state.upcoming_sleep, 1),
        )


if TYPE_CHECKING:

    def _queue_conforms(queue: RetryingQueue) -> JobQueue:
        return queue

    def _store_conforms(store: RetryingStore) -> ObjectStore:
        return store
