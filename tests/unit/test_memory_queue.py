"""MemoryQueue is as strict as SQS where emulators are lenient."""

from datetime import timedelta

import pytest

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from lifecycle.ports.queue import Delivery, Message

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def message(job: str = "a", dedup: str = "1") -> Message:
    return Message(body="{}", job=job, dedup=dedup)


def take(queue: MemoryQueue) -> Delivery:
    delivery = queue.receive(hidden=MINUTE, wait=timedelta(0))
    assert delivery is not None
    return delivery


def nothing(queue: MemoryQueue) -> bool:
    return queue.receive(hidden=MINUTE, wait=timedelta(0)) is None


def test_extending_an_expired_delivery_is_confirmed_without_effect(clock: ManualClock) -> None:
    """An extension of an expired delivery is confirmed without effect, so a confirmation proves nothing."""
    queue = MemoryQueue(clock)
    queue.send([message()])
    delivery = take(queue)
    clock.advance(61)
    assert queue.extend(delivery, hidden=MINUTE) is True
    assert take(queue).receives == 2


def test_extending_a_deleted_message_is_refused(clock: ManualClock) -> None:
    """An extension is refused after a delete, and with an old receipt."""
    queue = MemoryQueue(clock)
    queue.send([message()])
    first = take(queue)
    clock.advance(61)
    second = take(queue)
    assert queue.extend(first, hidden=MINUTE) is False
    queue.delete(second)
    assert queue.extend(second, hidden=MINUTE) is False


def test_a_delivery_is_held_for_twelve_hours_at_most(clock: ManualClock) -> None:
    """A delivery lasts at most twelve hours from the receive, however often it is extended."""
    queue = MemoryQueue(clock)
    queue.send([message()])
    delivery = take(queue)
    for _ in range(12 * 60 * 2):
        queue.extend(delivery, hidden=MINUTE)
        clock.advance(30)
    assert take(queue).receives == 2


def test_a_fifo_queue_drops_an_equal_id_for_five_minutes(clock: ManualClock) -> None:
    """A FIFO queue drops an equal deduplication id for five minutes, even after a delete."""
    queue = MemoryQueue(clock, fifo=True)
    queue.send([message()])
    queue.delete(take(queue))
    assert queue.send([message()]) == []
    assert nothing(queue)
    queue.send([message(dedup="2")])
    queue.delete(take(queue))
    clock.advance(301)
    queue.send([message()])
    assert not nothing(queue)


def test_a_delivery_hides_the_rest_of_its_fifo_group(clock: ManualClock) -> None:
    """A delivery hides the other messages of its FIFO group, and of no other group."""
    queue = MemoryQueue(clock, fifo=True)
    queue.send([message(dedup="1"), message(dedup="2"), message(job="b", dedup="3")])
    take(queue)
    take(queue)
    assert nothing(queue)


def test_an_expired_fifo_delivery_deletes_nothing(clock: ManualClock) -> None:
    """Deleting an expired FIFO delivery has no effect, and the message is delivered again."""
    queue = MemoryQueue(clock, fifo=True)
    queue.send([message()])
    delivery = take(queue)
    clock.advance(61)
    queue.delete(delivery)
    assert take(queue).receives == 2


def test_retention_counts_from_the_send(clock: ManualClock) -> None:
    """Retention counts from the send; a delivery does not extend it."""
    queue = MemoryQueue(clock, retention_s=100)
    queue.send([message()])
    take(queue)
    clock.advance(101)
    assert nothing(queue)


def test_too_many_receives_dead_letter_a_message(clock: ManualClock) -> None:
    """Every receive counts, also one that was released."""
    queue = MemoryQueue(clock, max_receives=2)
    queue.send([message()])
    for _ in range(2):
        queue.release(take(queue), delay=timedelta(0))
    assert nothing(queue)
    assert queue.dead == [("{}", "received 2 times")]


def test_a_body_is_text_of_at_most_a_mebibyte(clock: ManualClock) -> None:
    """A body that SQS refuses is refused."""
    queue = MemoryQueue(clock)
    refused = queue.send([Message(body="x" * (1 << 20) + "x", job="a", dedup="1"), message()])
    assert [failure.message.body[:1] for failure in refused] == ["x"]
    assert queue.depth().available == 1


@pytest.mark.parametrize("body", ["", "a\0b", "\x1b[0m", "\ud800", "\uffff"])
def test_a_body_has_only_xml_characters(clock: ManualClock, body: str) -> None:
    """A body that is empty, or has characters that XML does not allow, is refused; the others are accepted."""
    queue = MemoryQueue(clock)
    fine = Message(body="\t\n\r é 😀", job="a", dedup="2")
    assert [failure.message.body for failure in queue.send([Message(body=body, job="a", dedup="1"), fine])] == [body]
    assert take(queue).body == fine.body


def test_only_the_newest_standard_receipt_deletes(clock: ManualClock) -> None:
    """An expired receipt still deletes; after another receive, the delete is confirmed and has no effect."""
    queue = MemoryQueue(clock)
    queue.send([message()])
    first = take(queue)
    clock.advance(61)
    second = take(queue)
    queue.delete(first)
    clock.advance(61)
    assert queue.depth().available == 1
    queue.delete(second)
    assert nothing(queue)
