"""A call has a deadline for all of it: a server that sends a byte now and then is late, like one that sends nothing."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from attrs import evolve
from support.stub import TRICKLE, Reply, Stub

from adapters.aws import queue
from adapters.aws import store as r2
from adapters.aws.clients import BULK, CONTROL, RECEIVE, Credentials
from adapters.deadlines import TimeLimit
from adapters.memory.clock import ManualClock
from adapters.webhook import Webhook
from lifecycle.errors import RetryableError
from lifecycle.key_layout import KeyLayout
from lifecycle.outbox import Notice
from lifecycle.ports.queue import Delivery, Message
from lifecycle.ports.store import ABSENT, Range
from lifecycle.states import State

A_WHILE = timedelta(seconds=20)
KEYS = Credentials(key_id="a", secret="b")
SOON = TimeLimit(total_s=0.3, least_rate=1 << 30)
OBJECT = Reply(200, b"x", {"ETag": '"v"', "Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT"}, trickles=True)
LISTING = Reply(200, b"<ListBucketResult>", {"Content-Type": "application/xml"}, trickles=True)
JSON = Reply(200, b'{"Messages": [', {"Content-Type": "application/x-amz-json-1.0"}, trickles=True)
CLOCK = ManualClock()
DELIVERY = Delivery("{}", "m", "receipt", 1, CLOCK.monotonic())

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all clients little time; each read alone would be in time."""
    for module in (r2, queue):
        for name, kind in (("CONTROL", CONTROL), ("BULK", BULK), ("RECEIVE", RECEIVE)):
            monkeypatch.setattr(module, name, evolve(kind, limit=SOON), raising=False)


@pytest.fixture(params=["direct", "behind a proxy"])
def store(stub: Stub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[r2.R2Store]:
    """Return a store, with and without `S3Http`."""
    monkeypatch.setattr(r2, "is_proxied", lambda _: request.param != "direct")
    made = r2.connect(endpoint=stub.url, region="auto", credentials=KEYS, bucket="b", clock=CLOCK)
    yield made
    made._control.close()
    made._bulk.close()


@pytest.mark.parametrize("reply", [TRICKLE, OBJECT, LISTING], ids=["headers", "object", "listing"])
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get("k"),
        lambda store: store.put("k", b"record", expected=ABSENT),
        lambda store: store.put("k", b"x" * (3 << 20)),
        lambda store: store.get_range(Range("k", 0, 4)),
        lambda store: list(store.list("k")),
    ],
    ids=["get", "put", "large put", "range", "list"],
)
def test_a_store_that_trickles_is_late(
    store: r2.R2Store, stub: Stub, reply: Reply, call: Callable[[r2.R2Store], object]
) -> None:
    """Every call of the store ends while the server is still sending, and may be tried again."""
    stub.script(reply)
    with pytest.raises(RetryableError):
        call(store)
    assert stub.hung_up.wait(30)


@pytest.fixture
def sqs(stub: Stub) -> Iterator[queue.SqsQueue]:
    made = queue.connect(url=f"{stub.url}/1/q", credentials=KEYS, clock=CLOCK)
    yield made
    made._control.close()
    made._receiver.close()


@pytest.mark.parametrize("reply", [TRICKLE, JSON], ids=["headers", "body"])
@pytest.mark.parametrize(
    "call",
    [
        lambda sqs: sqs.depth(),
        lambda sqs: sqs.extend(DELIVERY, hidden=A_WHILE),
        lambda sqs: sqs.delete(DELIVERY),
        lambda sqs: sqs.receive(hidden=A_WHILE, wait=A_WHILE),
    ],
    ids=["depth", "extend", "delete", "receive"],
)
def test_a_queue_that_trickles_is_late(
    sqs: queue.SqsQueue, stub: Stub, reply: Reply, call: Callable[[queue.SqsQueue], object]
) -> None:
    """Every call of the queue ends while the server is still sending; without a status, it may be tried again."""
    stub.script(reply)
    with pytest.raises(RetryableError) if reply is TRICKLE else suppress(RetryableError):
        call(sqs)
    assert stub.hung_up.wait(30)


def test_a_send_that_trickles_is_a_failure(sqs: queue.SqsQueue, stub: Stub) -> None:
    """The messages are returned as not accepted."""
    stub.script(TRICKLE)
    assert len(sqs.send([Message("{}", "a", "d")])) == 1
    assert stub.hung_up.wait(30)


def test_a_receiver_of_webhooks_that_trickles_is_late(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook is delivered again later."""
    monkeypatch.setattr("adapters.webhook.TOTAL_S", 0.3)
    stub.script(TRICKLE)
    webhook = Webhook(stub.url, keys=["key-0123456789abcdef"], clock=CLOCK)
    notice = Notice("id", 1, 1, State.RUNNING, "2026-01-01T00:00:00+00:00")
    with pytest.raises(RetryableError):
        webhook.deliver(KeyLayout("").job("a"), notice)
    assert stub.hung_up.wait(30)
