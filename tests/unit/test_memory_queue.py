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


def test_extending_an_expired_delivery_says_yes_and_does_nothing(clock: ManualClock) -> None:
    """So a confirmed extension proves nothing."""
    queue = MemoryQueue(clock)
    queue.send([message()])
    delivery = take(queue)
    clock.advance(61)
    assert queue.extend(delivery, hidden=MINUTE) is True
    assert take(queue).receives == 2


def test_extending_a_deleted_message_says_no(clock: ManualClock) -> None:
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
    """The limit counts from the receive, however often the delivery is extended."""
    queue = MemoryQueue(clock)
    queue.send([message()])
    delivery = take(queue)
    for _ in range(12 * 60 * 2):
        queue.extend(delivery, hidden=MINUTE)
        clock.advance(30)
    assert take(queue).receives == 2


def test_a_fifo_queue_swallows_an_equal_id_for_five_minutes_even_after_a_delete(clock: ManualClock) -> None:
    """A new announcement needs a new deduplication id."""
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


def test_one_delivery_of_a_fifo_group_hides_the_rest_of_it(clock: ManualClock) -> None:
    """Other groups are not hidden."""
    queue = MemoryQueue(clock, fifo=True)
    queue.send([message(dedup="1"), message(dedup="2"), message(job="b", dedup="3")])
    take(queue)
    take(queue)
    assert nothing(queue)


def test_an_expired_fifo_delivery_deletes_nothing(clock: ManualClock) -> None:
    """The message is delivered again."""
    queue = MemoryQueue(clock, fifo=True)
    queue.send([message()])
    delivery = take(queue)
    clock.advance(61)
    queue.delete(delivery)
    assert take(queue).receives == 2


def test_retention_counts_from_the_send(clock: ManualClock) -> None:
    """A delivery does not extend a message's life."""
    queue = MemoryQueue(clock, retention_s=100)
    queue.send([message()])
    take(queue)
    clock.advance(101)
    assert nothing(queue)


def test_too_many_receives_move_a_message_to_the_dead(clock: ManualClock) -> None:
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
def test_a_body_is_of_characters_that_xml_can_say(clock: ManualClock, body: str) -> None:
    """A body that is empty, or has characters that XML does not allow, is refused; the others are accepted."""
    queue = MemoryQueue(clock)
    fine = Message(body="\t\n\r é 😀", job="a", dedup="2")
    assert [failure.message.body for failure in queue.send([Message(body=body, job="a", dedup="1"), fine])] == [body]
    assert take(queue).body == fine.body


def test_a_standard_receipt_deletes_only_while_it_is_the_newest(clock: ManualClock) -> None:
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
