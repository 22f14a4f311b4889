"""The contract of `lifecycle.ports.notifier.Notifier`, on webhooks over a socket and in memory, both also retried."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final

import pytest
from attrs import asdict, evolve, frozen
from support.notices import KEYS, NOTICE
from support.stub import DROP, HANG, Reply, Request, Stub

from adapters.memory.clock import ManualClock
from adapters.memory.notifier import MemoryNotifier
from adapters.webhook import RetryingNotifier, Webhook
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import NOTIFIABLE_STATES, Notice
from lifecycle.ports.notifier import Notifier
from lifecycle.states import State

BARE: Final = Notice(id="md-7:0:1:00000000", epoch=0, number=1, state=State.QUEUED, at="2030-01-01T00:00:00.000+00:00")

ADAPTERS: Final = ("webhook", "webhook retrying", "memory", "memory retrying")


class Answer(Enum):
    """The receiver's reaction to a notice that arrives."""

    TAKE = auto()
    NOT_NOW = auto()
    NEVER = auto()
    DROP = auto()
    """Take it, and never acknowledge it: the connection breaks."""
    SILENCE = auto()
    """Nothing, for longer than a notifier waits."""


TAKING: Final = frozenset({Answer.TAKE, Answer.DROP})


@frozen
class Adapter:
    """A notifier with its receiver.

    Attributes:
        notifier: The notifier.
        answer: Makes the receiver react like this from now on.
        disconnect: Makes the receiver unreachable.
        received: Returns each notice that the receiver has taken, in order, as the JSON document of a webhook.
        asked: Returns how often the receiver has been asked to take a notice since `answer`.
    """

    notifier: Notifier
    answer: Callable[[Answer], None]
    disconnect: Callable[[], None]
    received: Callable[[], list[dict[str, Any]]]
    asked: Callable[[], int]


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """Return each notifier in turn, with a receiver that accepts notices."""
    kind, _, is_retrying = request.param.partition(" ")
    made = in_memory() if kind == "memory" else over_http(stub, monkeypatch)
    made.answer(Answer.TAKE)
    return evolve(made, notifier=RetryingNotifier(made.notifier, ManualClock())) if is_retrying else made


def over_http(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """Return webhooks that go to *stub*."""
    replies = {
        Answer.TAKE: Reply(204),
        Answer.NOT_NOW: Reply(503),
        Answer.NEVER: Reply(410),
        Answer.DROP: DROP,
        Answer.SILENCE: HANG,
    }
    taken: list[Request] = []
    now = Answer.NOT_NOW

    def answer(answer: Answer) -> None:
        nonlocal now
        taken.extend(stub.requests if now in TAKING else ())
        stub.script(replies[answer])
        monkeypatch.setattr("adapters.webhook.TIMEOUT_S", 0.2 if answer is Answer.SILENCE else 10)
        now = answer

    def received() -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in (*taken, *(stub.requests if now in TAKING else ()))]

    return Adapter(
        Webhook(f"{stub.url}/hook", keys=["a-key-that-is-long-enough"], clock=ManualClock()),
        answer=answer,
        disconnect=stub.close,
        received=received,
        asked=lambda: len(stub.requests),
    )


def in_memory() -> Adapter:
    """Return a receiver in memory."""
    notifier = MemoryNotifier()
    asked: list[Notice] = []

    def answer(answer: Answer) -> None:
        def before(notice: Notice) -> None:
            asked.append(notice)
            if answer is Answer.NEVER:
                raise PermanentError("never, on purpose")
            if answer not in TAKING:
                raise RetryableError("not now, on purpose")

        def after(_: Notice) -> None:
            if answer is Answer.DROP:
                raise RetryableError("no acknowledgement, on purpose")

        asked.clear()
        notifier.before, notifier.after = before, after

    return Adapter(
        notifier,
        answer=answer,
        disconnect=lambda: answer(Answer.SILENCE),
        received=lambda: [document(each.keys, each.notice) for each in notifier.delivered],
        asked=lambda: len(asked),
    )


def document(keys: JobKeys, notice: Notice) -> dict[str, Any]:
    """Return *notice* as receivers of webhooks read it."""
    facts = asdict(notice)
    progress = {name: facts.pop(name) for name in ("done", "total")}
    return {"job": keys.job, "prefix": keys.layout.prefix, **facts, "progress": progress}


# ---- a receiver that is well ----


@pytest.mark.parametrize("notice", [NOTICE, BARE], ids=["all fields", "few fields"])
def test_a_notice_has_arrived_when_the_call_returns(adapter: Adapter, notice: Notice) -> None:
    """The receiver has the whole notice, with its job, once."""
    adapter.notifier.deliver(KEYS, notice)
    assert adapter.received() == [document(KEYS, notice)]


@pytest.mark.parametrize("state", NOTIFIABLE_STATES)
def test_every_recorded_state_can_be_announced(adapter: Adapter, state: State) -> None:
    """A notice of any state can be delivered."""
    adapter.notifier.deliver(KEYS, evolve(NOTICE, state=state))
    assert [each["state"] for each in adapter.received()] == [state]


def test_notices_arrive_one_by_one_in_the_order_of_the_calls(adapter: Adapter) -> None:
    """A call returns after its notice has arrived, so notices arrive in the order of the calls."""
    notices = [evolve(NOTICE, id=f"md-7:3:{number}", number=number) for number in range(5)]
    for notice in notices:
        adapter.notifier.deliver(KEYS, notice)
    assert adapter.received() == [document(KEYS, notice) for notice in notices]


def test_a_repeated_delivery_is_recognisable(adapter: Adapter) -> None:
    """A notice that is delivered twice has the same id and the same content, so that receivers can drop one."""
    for _ in range(2):
        adapter.notifier.deliver(KEYS, NOTICE)
    assert adapter.received() == [document(KEYS, NOTICE)] * 2


def test_several_threads_may_deliver_at_once(adapter: Adapter) -> None:
    """Each notice of each thread arrives whole and once."""
    gate = threading.Barrier(4)

    def deliver(thread: int) -> None:
        gate.wait()
        for number in range(5):
            adapter.notifier.deliver(KEYS, evolve(NOTICE, id=f"{thread}:{number}", epoch=thread, number=number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, range(4)))
    received = adapter.received()
    assert sorted((each["epoch"], each["number"]) for each in received) == [(t, n) for t in range(4) for n in range(5)]
    assert all(each["id"] == f"{each['epoch']}:{each['number']}" for each in received)


# ---- a receiver in trouble ----


@pytest.mark.parametrize("answer", [Answer.NOT_NOW, Answer.DROP, Answer.SILENCE])
def test_a_notice_that_is_not_acknowledged_can_be_delivered_later(adapter: Adapter, answer: Answer) -> None:
    """The error is retryable if the receiver is not known to have the notice, and a later delivery succeeds."""
    adapter.answer(answer)
    with pytest.raises(RetryableError):
        adapter.notifier.deliver(KEYS, NOTICE)
    adapter.answer(Answer.TAKE)
    adapter.notifier.deliver(KEYS, NOTICE)
    assert adapter.received()[-1] == document(KEYS, NOTICE)


def test_a_receiver_that_cannot_be_reached_is_a_retryable_error(adapter: Adapter) -> None:
    """A receiver that is down loses no notice for good."""
    adapter.disconnect()
    with pytest.raises(RetryableError):
        adapter.notifier.deliver(KEYS, NOTICE)


def test_a_lost_acknowledgement_may_deliver_twice(adapter: Adapter) -> None:
    """A receiver that took the notice before the connection broke gets the same one again."""
    adapter.answer(Answer.DROP)
    with pytest.raises(RetryableError):
        adapter.notifier.deliver(KEYS, NOTICE)
    adapter.answer(Answer.TAKE)
    adapter.notifier.deliver(KEYS, NOTICE)
    received = adapter.received()
    assert len(received) >= 2
    assert all(each == document(KEYS, NOTICE) for each in received)


def test_a_refusal_for_good_is_permanent_and_asked_for_once(adapter: Adapter) -> None:
    """A notice that the receiver has read and will never take is a permanent error, and is not sent again."""
    adapter.answer(Answer.NEVER)
    with pytest.raises(PermanentError):
        adapter.notifier.deliver(KEYS, NOTICE)
    assert adapter.asked() == 1
    assert adapter.received() == []


def test_a_refused_notice_does_not_stop_the_next(adapter: Adapter) -> None:
    """A notifier keeps no state between calls."""
    adapter.answer(Answer.NEVER)
    with pytest.raises(PermanentError):
        adapter.notifier.deliver(KEYS, BARE)
    adapter.answer(Answer.TAKE)
    adapter.notifier.deliver(KEYS, NOTICE)
    assert adapter.received() == [document(KEYS, NOTICE)]


@pytest.mark.parametrize("notice_id", ["x\r\nEvil: 1", "\u201cid\u201d", "\ud800", ""])
def test_an_odd_id_arrives_as_it_is_or_is_a_permanent_error(adapter: Adapter, notice_id: str) -> None:
    """An id that was edited by hand, and that a receiver may not be able to take, raises no other error."""
    notice = evolve(NOTICE, id=notice_id)
    with suppress(PermanentError):
        adapter.notifier.deliver(KEYS, notice)
    assert adapter.received() in ([], [document(KEYS, notice)])
