"""SqsQueue with a real server's responses, and with those that no emulator gives."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from support.stub import DROP, Reply, Stub, sqs_error

from adapters.aws import queue as sqs
from adapters.aws.clients import Credentials
from adapters.aws.queue import SqsQueue
from adapters.memory.clock import ManualClock
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.ports.queue import Delivery, Depth, Message

MINUTE = timedelta(minutes=1)
NOW = timedelta(0)
DELIVERY = Delivery(body="{}", message_id="m", receipt="r", receives=1, received_at=0.0)
KEYS = Credentials(key_id="a", secret="b")
EMPTY = Reply(200, b"{}")
MakeQueue = Callable[..., SqsQueue]


@pytest.fixture
def clock() -> ManualClock:
    """Return the queue's clock."""
    return ManualClock()


@pytest.fixture
def scripted(stub: Stub, clock: ManualClock) -> Iterator[Callable[[str], SqsQueue]]:
    """Return a function that creates queues whose server follows a script."""
    made: list[SqsQueue] = []

    def make(name: str = "q") -> SqsQueue:
        made.append(sqs.connect(url=f"{stub.url}/1/{name}", credentials=KEYS, clock=clock))
        return made[-1]

    yield make
    for queue in made:
        queue._control.close()
        queue._receiver.close()


def sent(stub: Stub) -> list[dict[str, Any]]:
    """Return the parameters of the calls received."""
    return [json.loads(request.body) for request in stub.requests]


def messages(count: int, body: str = "{}") -> list[Message]:
    """Return messages to send."""
    return [Message(body=body, job=f"j{number}", dedup=f"d{number}") for number in range(count)]


def accepted(*numbers: int, failed: str | None = None) -> Reply:
    """Return the response to a batch."""
    good = [{"Id": str(number), "MessageId": "m", "MD5OfMessageBody": "x"} for number in numbers]
    bad = [{"Id": failed, "Code": "InternalError", "Message": "sorry", "SenderFault": False}] if failed else []
    return Reply(200, json.dumps({"Successful": good, "Failed": bad}).encode())


@pytest.mark.parametrize("fifo", [False, True])
def test_the_life_of_a_message(wire_queue: MakeQueue, fifo: bool) -> None:  # noqa: FBT001 - a table
    """A message is sent, received, hidden, released, counted, received again and deleted, on both kinds of queue."""
    queue = wire_queue(fifo=fifo)
    assert queue.receive(hidden=MINUTE, wait=NOW) is None
    assert queue.send([Message(body='{"a": 1}', job="j", dedup="d")]) == []
    assert queue.depth() == Depth(available=1, in_flight=0, delayed=0)
    first = queue.receive(hidden=MINUTE, wait=MINUTE)
    assert first is not None
    assert (first.body, first.receives) == ('{"a": 1}', 1)
    assert queue.receive(hidden=MINUTE, wait=NOW) is None
    assert queue.depth().in_flight == 1
    assert queue.extend(first, hidden=MINUTE)
    queue.release(first, delay=NOW)
    second = queue.receive(hidden=MINUTE, wait=NOW)
    assert second is not None
    assert (second.message_id, second.receives) == (first.message_id, 2)
    queue.delete(second)
    queue.delete(second)
    assert not queue.extend(second, hidden=MINUTE)
    assert queue.depth() == Depth(available=0, in_flight=0, delayed=0)


@pytest.mark.parametrize("fifo", [False, True])
def test_a_dead_letter_carries_its_reason(
    wire_queue_with_dead_letters: Callable[..., tuple[SqsQueue, SqsQueue]],
    sqs_client: Any,
    fifo: bool,  # noqa: FBT001 - a table
) -> None:
    """The copy in the dead-letter queue has the body and the reason; the message itself stays."""
    queue, dead = wire_queue_with_dead_letters(fifo=fifo)
    queue.send([Message(body="nonsense", job="j", dedup="d")])
    delivery = queue.receive(hidden=MINUTE, wait=NOW)
    assert delivery is not None
    assert queue.dead_letter(delivery, reason="not\nJSON") is True
    (copy,) = sqs_client.receive_message(QueueUrl=dead._url, MessageAttributeNames=["All"])["Messages"]
    assert copy["Body"] == "nonsense"
    assert copy["MessageAttributes"]["reason"]["StringValue"] == "not JSON"
    assert queue.depth().in_flight == 1
    assert queue.receive_limit() == 100


def test_no_dead_letter_queue(wire_queue: MakeQueue, scripted: MakeQueue, stub: Stub) -> None:
    """Without a dead-letter queue, or if it is missing, nothing is copied and the result is False."""
    queue = wire_queue()
    queue.send(messages(1))
    delivery = queue.receive(hidden=MINUTE, wait=NOW)
    assert delivery is not None
    assert queue.dead_letter(delivery, reason="why") is False
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:gone", "maxReceiveCount": 5})
    stub.script(
        Reply(200, json.dumps({"Attributes": {"RedrivePolicy": policy}}).encode()),
        sqs_error(400, "AWS.SimpleQueueService.NonExistentQueue"),
    )
    assert scripted().dead_letter(DELIVERY, reason="why") is False
    assert sent(stub)[1] == {"QueueName": "gone"}


def test_a_second_purge_within_a_minute_is_an_error(wire_queue: MakeQueue) -> None:
    """A purge empties the queue. SQS allows one per minute; a second one raises an error that says so."""
    queue = wire_queue()
    queue.send(messages(3))
    queue.purge()
    assert queue.depth() == Depth(available=0, in_flight=0, delayed=0)
    with pytest.raises(RetryableError, match="wait 60 s"):
        queue.purge()


def test_a_missing_queue_is_a_config_error(wire_queue: MakeQueue, sqs_client: Any) -> None:
    """Every call to a queue that does not exist raises a ConfigError that names QUEUE_URL."""
    queue = wire_queue()
    sqs_client.delete_queue(QueueUrl=queue._url)
    for call in (
        lambda: queue.receive(hidden=MINUTE, wait=NOW),
        lambda: queue.extend(Delivery("{}", "m", "r", 1, queue._clock.monotonic()), hidden=MINUTE),
        lambda: queue.delete(DELIVERY),
        lambda: queue.send(messages(25)),
        lambda: queue.dead_letter(DELIVERY, reason="why"),
        queue.depth,
        queue.purge,
    ):
        with pytest.raises(ConfigError, match="QUEUE_URL"):
            call()


def test_receive_asks_for_one_message_in_whole_seconds(scripted: MakeQueue, stub: Stub, clock: ManualClock) -> None:
    """Durations are rounded up and cut to SQS's limits; a delivery's age counts from before the call."""
    clock.advance(7)
    answer = {"Messages": [{"Body": "b", "MessageId": "m", "ReceiptHandle": "r"}]}
    stub.script(Reply(200, json.dumps(answer).encode()))
    delivery = scripted().receive(hidden=timedelta(seconds=0.4), wait=timedelta(seconds=30))
    assert delivery == Delivery(body="b", message_id="m", receipt="r", receives=1, received_at=7.0)
    (call,) = sent(stub)
    assert (call["MaxNumberOfMessages"], call["VisibilityTimeout"], call["WaitTimeSeconds"]) == (1, 1, 20)
    assert "ReceiveRequestAttemptId" not in call


def test_a_lost_fifo_receive_is_repeated(scripted: MakeQueue, stub: Stub) -> None:
    """After a lost response, the same attempt id recovers the message; after a response, a new id is used."""
    queue = scripted("q.fifo")
    stub.script(DROP, EMPTY)
    with pytest.raises(RetryableError):
        queue.receive(hidden=MINUTE, wait=NOW)
    queue.receive(hidden=MINUTE, wait=NOW)
    queue.receive(hidden=MINUTE, wait=NOW)
    lost, recovered, new = (call["ReceiveRequestAttemptId"] for call in sent(stub))
    assert lost == recovered != new


def test_extend_stays_below_the_cap(scripted: MakeQueue, stub: Stub, clock: ManualClock) -> None:
    """SQS refuses an extension beyond 12 h from the receive, so it is shortened, and at the end not sent."""
    queue = scripted()
    stub.script(EMPTY)
    clock.advance(60)
    assert queue.extend(DELIVERY, hidden=timedelta(hours=12))
    clock.advance(43_200 - 60 - 60 - 10)
    assert queue.extend(DELIVERY, hidden=timedelta(seconds=9.5))
    assert queue.extend(DELIVERY, hidden=MINUTE)
    clock.advance(10)
    assert not queue.extend(DELIVERY, hidden=MINUTE)
    assert [call["VisibilityTimeout"] for call in sent(stub)] == [43_200 - 60 - 60, 10, 10]


def test_release_beyond_the_cap_is_cut(scripted: MakeQueue, stub: Stub, clock: ManualClock) -> None:
    """A delay that SQS would refuse is shortened, or the message would stay hidden."""
    queue = scripted()
    stub.script(EMPTY)
    clock.advance(43_200 - 60 - 10)
    queue.release(DELIVERY, delay=MINUTE)
    clock.advance(100)
    queue.release(DELIVERY, delay=MINUTE)
    assert [call["VisibilityTimeout"] for call in sent(stub)] == [10, 0]


@pytest.mark.parametrize(
    "reply",
    [
        sqs_error(400, "InvalidParameterValue", "Reason: Total VisibilityTimeout for the message is beyond the limit"),
        sqs_error(400, "InvalidParameterValue", "Reason: The receipt handle has expired."),
        sqs_error(400, "InvalidParameterValue", "Message does not exist or is not available for visibility change"),
        sqs_error(400, "AWS.SimpleQueueService.MessageNotInflight"),
        sqs_error(404, "ReceiptHandleIsInvalid"),
    ],
)
def test_an_invalid_receipt_is_not_an_error(scripted: MakeQueue, stub: Stub, reply: Reply) -> None:
    """However SQS says that a receipt is invalid, the delivery is no longer ours; that is not an error."""
    queue = scripted("q.fifo")
    stub.script(reply)
    assert queue.extend(DELIVERY, hidden=MINUTE) is False
    queue.release(DELIVERY, delay=NOW)
    queue.delete(DELIVERY)
    assert len(stub.requests) == 3


@pytest.mark.parametrize(("reply", "error"), [(DROP, RetryableError), (sqs_error(403, "AccessDenied"), ConfigError)])
def test_other_errors_of_a_receipt_are_raised(
    scripted: MakeQueue, stub: Stub, reply: Reply, error: type[Exception]
) -> None:
    """An error of the service is not taken for a lost delivery."""
    queue = scripted()
    stub.script(reply)
    for call in (
        lambda: queue.extend(DELIVERY, hidden=MINUTE),
        lambda: queue.release(DELIVERY, delay=NOW),
        lambda: queue.delete(DELIVERY),
    ):
        with pytest.raises(error):
            call()


def test_many_messages_are_sent_in_batches(wire_queue: MakeQueue) -> None:
    """Any number of messages is sent, ten at a time, and every one arrives."""
    queue = wire_queue()
    assert queue.send(messages(43)) == []
    assert queue.depth().available == 43
    assert queue.send([]) == []


def test_batches_keep_below_the_size_limit(scripted: MakeQueue, stub: Stub) -> None:
    """Large messages share a batch only up to SQS's limit."""
    stub.script(accepted(*range(10)))
    assert scripted().send(messages(5, body="x" * (100 << 10))) == []
    assert sorted(len(call["Entries"]) for call in sent(stub)) == [1, 2, 2]


def test_fifo_messages_have_group_and_deduplication_id(scripted: MakeQueue, stub: Stub) -> None:
    """On FIFO, the job is the group and the announcement the deduplication id; a standard queue gets neither."""
    stub.script(accepted(0))
    scripted("q.fifo").send(messages(1))
    scripted("q").send(messages(1))
    fifo, standard = (call["Entries"][0] for call in sent(stub))
    assert (fifo["MessageGroupId"], fifo["MessageDeduplicationId"]) == ("j0", "d0")
    assert standard.keys() == {"Id", "MessageBody"}


def test_refused_messages_are_failures(scripted: MakeQueue, stub: Stub) -> None:
    """A message that a batch's response refuses, or does not mention, is a failure."""
    stub.script(accepted(0, failed="1"))
    refused, forgotten = scripted().send(messages(3))
    assert (refused.message.job, refused.reason) == ("j1", "InternalError: sorry")
    assert forgotten.message.job == "j2"


def test_a_lost_batch_is_reported_as_failures(scripted: MakeQueue, stub: Stub) -> None:
    """If a response is lost, each message of that batch is a failure, and the other batches are sent."""
    stub.script(DROP, accepted(*range(10)))
    failures = scripted().send(messages(30))
    assert len(failures) == 10
    assert len({failure.message.job for failure in failures}) == 10
    assert len(stub.requests) == 3


def test_a_queue_that_is_down_is_given_up_early(scripted: MakeQueue, stub: Stub) -> None:
    """If the queue is down, a long send gives up early, and reports every message as not sent."""
    stub.script(sqs_error(503, "ServiceUnavailable"))
    failures = scripted().send(messages(1000))
    assert len(failures) == 1000
    assert len(stub.requests) < 50
