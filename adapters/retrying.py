"""Retrying, as a wrapper that is itself the port: the one place that decides what is sent again, and how often.

One policy per kind of call. Only `RetryableError` is retried: whatever else a call raises will not change. A
conditional put goes out exactly once: whether it landed is for the core to find out, by reading back.
"""

import logging
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

T = TypeVar("T")

LISTED_AT_ONCE: Final = 1000  # keys: a page of the store's

log = logging.getLogger("holdfast.retrying")


@frozen(kw_only=True)
class RetryPolicy:
    """How often a kind of call is made, and how long the pauses are: random, up to *first_s*, doubled each time.

    Attributes:
        attempts: In all.
        first_s: The longest first pause, in seconds.
        longest_s: The longest pause, in seconds.
    """

    attempts: int
    first_s: float
    longest_s: float


READ: Final = RetryPolicy(
    attempts=4, first_s=0.5, longest_s=4
)  # < 40 s with an 8 s time limit: a heartbeat waits for it
WRITE: Final = RetryPolicy(attempts=5, first_s=1.0, longest_s=8)  # R2 takes one write a second to a key
TRANSFER: Final = RetryPolicy(attempts=3, first_s=1.0, longest_s=8)  # the adapter repeats the pieces
HEARTBEAT: Final = RetryPolicy(attempts=2, first_s=0.2, longest_s=0.2)  # the next beat is the better try
RECEIVE: Final = RetryPolicy(
    attempts=2, first_s=0.5, longest_s=0.5
)  # the worker asks again, after a look at its signals
SEND: Final = RetryPolicy(attempts=6, first_s=1.0, longest_s=15)


class RetryingQueue:
    """A queue whose calls are repeated where that helps.

    Args:
        queue: The queue.
        clock: For the pauses.
        retries: Is told of each call that is made again.
    """

    def __init__(self, queue: JobQueue, clock: Clock, retries: RetryListeners | None = None) -> None:
        self._queue = queue
        self._again = _Again("queue", clock, retries or RetryListeners())

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `JobQueue.receive`."""
        return self._again(RECEIVE, "receive", lambda: self._queue.receive(hidden=hidden, wait=wait))

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """See `JobQueue.extend`. Tried twice, quickly."""
        return self._again(HEARTBEAT, "extend", lambda: self._queue.extend(delivery, hidden=hidden))

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See `JobQueue.release`."""
        self._again(WRITE, "release", lambda: self._queue.release(delivery, delay=delay))

    def delete(self, delivery: Delivery) -> None:
        """See `JobQueue.delete`."""
        self._again(WRITE, "delete", lambda: self._queue.delete(delivery))

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`. Only what was not accepted is sent again."""
        left = list(messages)

        def send() -> list[SendFailure]:
            nonlocal left
            failures = self._queue.send(left)
            left = [failure.message for failure in failures]
            return failures

        return self._again(SEND, "send", send, again_if=bool)

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See `JobQueue.dead_letter`. After a lost answer there may be two copies."""
        return self._again(WRITE, "dead-letter", lambda: self._queue.dead_letter(delivery, reason=reason))

    def depth(self) -> Depth:
        """See `JobQueue.depth`."""
        return self._again(READ, "depth", self._queue.depth)

    def purge(self) -> None:
        """See `JobQueue.purge`. Not retried: a queue that is busy purging stays so for a minute."""
        self._queue.purge()


class RetryingStore:
    """A store whose calls are repeated where that helps; conditional puts are not.

    Args:
        store: The store.
        clock: For the pauses.
        retries: Is told of each call that is made again.
    """

    def __init__(self, store: ObjectStore, clock: Clock, retries: RetryListeners | None = None) -> None:
        self._store = store
        self._again = _Again("store", clock, retries or RetryListeners())

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        return self._again(READ, f"get {key}", lambda: self._store.get(key))

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`."""
        if expected is not None:
            return self._store.put(key, body, expected=expected)
        return self._again(WRITE, f"put {key}", lambda: self._store.put(key, body))

    def get_range(self, wanted: Range) -> bytes | None:
        """See `ObjectStore.get_range`."""
        return self._again(TRANSFER, f"get {wanted}", lambda: self._store.get_range(wanted))

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`."""
        self._again(TRANSFER, f"upload {key}", lambda: self._store.put_file(key, path))

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See `ObjectStore.assemble`."""
        return self._again(TRANSFER, f"assemble {key}", lambda: self._store.assemble(key, parts))

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See `ObjectStore.list`. A listing that breaks off is taken up again after the last key that it gave."""
        listing = _Listing(self._store, prefix)
        while page := self._again(READ, f"list {prefix}", listing.page):
            yield from page

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        doomed = tuple(keys)  # an iterator could not be gone through again
        self._again(WRITE, "delete", lambda: self._store.delete(doomed))


class _Listing:
    """A listing that can go on after a failure: keys come in order, so what was given is known by its last key."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._last = ""
        self._rest: Iterator[ListedObject] | None = None

    def page(self) -> Sequence[ListedObject]:
        """The next keys; none at the end.

        Raises:
            RetryableError: No key came; calling again is safe.
        """
        page: list[ListedObject] = []
        try:
            self._rest = self._rest or self._store.list(self._prefix)
            for listed in self._rest:
                if listed.key > self._last:
                    page.append(listed)
                if len(page) == LISTED_AT_ONCE:
                    break
        except RetryableError:
            self._rest = None
            if not page:
                raise
        if page:
            self._last = page[-1].key
        return page


@frozen
class _Again:
    """Makes calls of the port called *port* until they succeed; tells *retries* of each that it makes again."""

    port: str
    clock: Clock
    retries: RetryListeners

    def __call__(
        self, policy: RetryPolicy, what: str, call: Callable[[], T], *, again_if: Callable[[T], bool] | None = None
    ) -> T:
        """Make *message* as often as *policy* allows; what the last one gave or raised is the outcome.

        Args:
            policy: How often.
            what: For the log; its first word is the call's name.
            call: Safe to repeat.
            again_if: Says of a result that it is no success yet.
        """
        again: Any = retry_if_exception_type(RetryableError)
        if again_if is not None:
            again |= retry_if_result(again_if)

        def conclude(state: RetryCallState) -> Any:
            return state.outcome.result() if state.outcome is not None else None

        retrying = Retrying(
            sleep=self.clock.sleep,
            stop=stop_after_attempt(policy.attempts),
            wait=wait_random_exponential(multiplier=policy.first_s, max=policy.longest_s),
            retry=again,
            before_sleep=lambda state: self._tell(policy, what, state),
            retry_error_callback=conclude,
        )
        return retrying(call)

    def _tell(self, policy: RetryPolicy, what: str, state: RetryCallState) -> None:
        outcome = state.outcome
        error = outcome.exception() if outcome is not None and outcome.failed else None
        self.retries.tell(f"{self.port} {what.partition(' ')[0]}", error)
        log.warning(
            "%s: try %d of %d: %s; again in %.1f s",
            what,
            state.attempt_number,
            policy.attempts,
            error or "not all of it was accepted",
            state.upcoming_sleep,
        )


if TYPE_CHECKING:

    def _queue_proof(queue: RetryingQueue) -> JobQueue:
        return queue

    def _store_proof(store: RetryingStore) -> ObjectStore:
        return store
