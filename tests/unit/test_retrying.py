"""The retry policy: retried calls, their number of attempts, and calls that are never retried."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.any_port import AnyPort

from adapters import retrier
from adapters.memory.clock import ManualClock
from adapters.retrier import RetryPolicy
from adapters.retrying import RetryingQueue, RetryingStore
from lifecycle.errors import (
    ConfigError,
    HoldfastError,
    PermanentError,
    RetryableError,
    UnknownOutcomeError,
    VersionConflictError,
)
from lifecycle.ports.queue import Delivery, Message, SendFailure
from lifecycle.ports.store import ABSENT, ListedObject, Range, StoredObject

DELIVERY = Delivery(body="{}", message_id="m", receipt="r", receives=1, received_at=0.0)
MINUTE = timedelta(minutes=1)
STORED = StoredObject(b"body", "v", 0.0)

QUEUE_CALLS: dict[str, tuple[RetryPolicy | None, Callable[[RetryingQueue], object]]] = {
    "receive": (retrier.RECEIVE, lambda queue: queue.receive(hidden=MINUTE, wait=MINUTE)),
    "extend": (retrier.HEARTBEAT, lambda queue: queue.extend(DELIVERY, hidden=MINUTE)),
    "release": (retrier.WRITE, lambda queue: queue.release(DELIVERY, delay=MINUTE)),
    "delete": (retrier.WRITE, lambda queue: queue.delete(DELIVERY)),
    "send": (retrier.SEND, lambda queue: queue.send([])),
    "dead_letter": (retrier.WRITE, lambda queue: queue.dead_letter(DELIVERY, reason="why")),
    "depth": (retrier.READ, lambda queue: queue.depth()),
    "purge": (None, lambda queue: queue.purge()),
}
STORE_CALLS: dict[str, tuple[RetryPolicy | None, Callable[[RetryingStore], object]]] = {
    "get": (retrier.READ, lambda store: store.get("k")),
    "put": (retrier.WRITE, lambda store: store.put("k", b"")),
    "put if absent": (None, lambda store: store.put("k", b"", expected=ABSENT)),
    "put if match": (None, lambda store: store.put("k", b"", expected='"v"')),
    "get_range": (retrier.TRANSFER, lambda store: store.get_range(Range("k", 0, 1))),
    "put_file": (retrier.TRANSFER, lambda store: store.put_file("k", Path("f"))),
    "assemble": (retrier.TRANSFER, lambda store: store.assemble("k", [Range("l", 0, 1)])),
    "list": (retrier.READ, lambda store: list(store.list(""))),
    "delete": (retrier.WRITE, lambda store: store.delete(["k"])),
}


class Failing(AnyPort):
    """A port that raises the given errors, one per call, and then succeeds."""

    def __init__(self, *errors: HoldfastError, answer: Any = None) -> None:
        self.errors = list(errors)
        self.answer = answer
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> Any:
            self.calls.append(name)
            if self.errors:
                raise self.errors.pop(0)
            return self.answer

        return call


CASES = [
    pytest.param(wrapper, policy, call, id=f"{wrapper.__name__} {name}")
    for wrapper, calls in ((RetryingQueue, QUEUE_CALLS), (RetryingStore, STORE_CALLS))
    for name, (policy, call) in calls.items()
]


@pytest.mark.parametrize(("wrapper", "policy", "call"), CASES)
def test_each_call_is_made_as_often_as_its_policy_allows(wrapper: Any, policy: RetryPolicy | None, call: Any) -> None:
    """A call that keeps failing is made as often as its policy says, a conditional put once.

    The last error is raised.
    """
    attempts = policy.attempts if policy else 1
    errors = [RetryableError(f"try {number}") for number in range(1, 20)]
    port = Failing(*errors)
    with pytest.raises(RetryableError, match=f"try {attempts}$"):
        call(wrapper(port, ManualClock()))
    assert len(port.calls) == attempts


@pytest.mark.parametrize("error", [ConfigError("no"), PermanentError("no"), VersionConflictError("no")])
@pytest.mark.parametrize(("wrapper", "policy", "call"), CASES)
def test_only_retryable_errors_are_retried(
    wrapper: Any, policy: RetryPolicy | None, call: Any, error: HoldfastError
) -> None:
    """An error that calling again does not change is raised at once."""
    port = Failing(error)
    with pytest.raises(type(error)):
        call(wrapper(port, ManualClock()))
    assert len(port.calls) == 1


def test_a_recovered_call_returns_its_result(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure costs a pause on the clock and a log line, and the result is returned."""
    clock = ManualClock()
    port = Failing(RetryableError("hiccup"), UnknownOutcomeError("hiccup"), answer=STORED)
    assert RetryingStore(port, clock).get("k") == STORED
    assert 0 < clock.monotonic() <= retrier.READ.first_s * 3
    assert [record.name for record in caplog.records] == ["holdfast.retrying"] * 2
    assert caplog.messages[0].startswith("call.retried call='get k' attempt=1 attempts=4 error=hiccup pause_s=")


def test_a_heartbeat_is_given_up_early() -> None:
    """A heartbeat fails soon, because the next one matters more."""
    clock = ManualClock()
    with pytest.raises(RetryableError):
        RetryingQueue(Failing(*[RetryableError("no")] * 9), clock).extend(DELIVERY, hidden=MINUTE)
    assert clock.monotonic() <= 0.2


class Picky(AnyPort):
    """A queue that accepts each message at a given attempt."""

    def __init__(self, tries: dict[str, int]) -> None:
        self.tries = tries
        self.sent: list[list[str]] = []

    def send(self, messages: list[Message]) -> list[SendFailure]:
        self.sent.append([message.job for message in messages])
        return [SendFailure(message, "later") for message in messages if self.tries[message.job] > len(self.sent)]


def test_only_refused_messages_are_sent_again() -> None:
    """Only refused messages are sent again; accepted ones are not sent twice."""
    messages = [Message(body="", job=job, dedup=job) for job in "abc"]
    queue = Picky({"a": 1, "b": 3, "c": 2})
    assert RetryingQueue(queue, ManualClock()).send(messages) == []
    assert queue.sent == [["a", "b", "c"], ["b", "c"], ["b"]]


def test_messages_refused_in_every_attempt_are_returned() -> None:
    """After the last attempt, the messages that were not accepted are returned with the reason."""
    messages = [Message(body="", job=job, dedup=job) for job in "ab"]
    queue = Picky({"a": 1, "b": 99})
    assert RetryingQueue(queue, ManualClock()).send(messages) == [SendFailure(messages[1], "later")]
    assert len(queue.sent) == retrier.SEND.attempts


class Torn(AnyPort):
    """A store whose listings break off at given positions."""

    def __init__(self, *breaks: int, keys: int = 0) -> None:
        self.breaks = list(breaks)
        self.keys = [f"{number:05d}" for number in range(keys)]
        self.listings = 0

    def list(self, prefix: str) -> Iterator[ListedObject]:
        self.listings += 1
        last = self.breaks.pop(0) if self.breaks else None
        for number, key in enumerate(self.keys):
            if number == last:
                raise RetryableError("broke off")
            yield ListedObject(key=key, size_bytes=0, version="", age_s=0.0)


def test_a_broken_listing_continues_after_the_last_key() -> None:
    """Each key is yielded once, in order, and progress resets the number of attempts."""
    store = Torn(0, 3, 700, 1500, 1500, 2400, 2499, keys=2500)
    listed = [found.key for found in RetryingStore(store, ManualClock()).list("")]
    assert listed == store.keys
    assert store.listings == 8


def test_a_listing_is_fetched_lazily() -> None:
    """Reading the first key does not fetch the whole listing."""
    store = Torn(1000, keys=5000)
    assert next(RetryingStore(store, ManualClock()).list("")).key == "00000"
    assert store.listings == 1


def test_keys_from_an_iterator_survive_a_retry() -> None:
    """Keys from an iterator are still known at the second attempt."""

    class Store(AnyPort):
        tries: list[list[str]] = []  # noqa: RUF012 - one instance

        def delete(self, keys: Any) -> None:
            self.tries.append(list(keys))
            if len(self.tries) == 1:
                raise RetryableError("no")

    store = Store()
    RetryingStore(store, ManualClock()).delete(iter("ab"))
    assert store.tries == [["a", "b"], ["a", "b"]]
