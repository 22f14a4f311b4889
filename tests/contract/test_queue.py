"""The contract of `lifecycle.ports.queue.JobQueue`, on every adapter."""

from datetime import timedelta

from lifecycle.ports.queue import Delivery, JobQueue, Message

HIDDEN = timedelta(seconds=30)
NOW = timedelta(0)
SOON = timedelta(seconds=5)


def message(number: int, body: str = "") -> Message:
    return Message(body=body or f'{{"job": "j{number}"}}', job=f"j{number}", dedup=f"j{number}:1")


def take(queue: JobQueue, *, hidden: timedelta = HIDDEN, wait: timedelta = SOON) -> Delivery:
    delivery = queue.receive(hidden=hidden, wait=wait)
    assert delivery is not None
    return delivery


def test_a_sent_message_is_delivered(queue: JobQueue) -> None:
    """A message is delivered with its body unchanged and a receive count of 1."""
    assert queue.send([message(1, '{"text": "é\\" <&>"}')]) == []
    delivery = take(queue)
    assert delivery.body == '{"text": "é\\" <&>"}'
    assert delivery.receives == 1
    assert delivery.message_id


def test_an_empty_queue_delivers_nothing(queue: JobQueue) -> None:
    """Receiving from an empty queue without waiting returns None."""
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None


def test_a_delivered_message_is_hidden_and_a_deleted_one_is_gone(queue: JobQueue) -> None:
    """A delivered message is hidden, and a deleted one never returns; deleting twice is harmless."""
    queue.send([message(1)])
    delivery = take(queue)
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None
    queue.delete(delivery)
    queue.delete(delivery)
    depth = queue.depth()
    assert (depth.available, depth.in_flight) == (0, 0)


def test_an_undeleted_message_is_delivered_again(queue: JobQueue) -> None:
    """A message that is not deleted is delivered again with the same id, a new receipt and a higher count."""
    queue.send([message(1)])
    first = take(queue, hidden=timedelta(seconds=1))
    second = take(queue)
    assert second.message_id == first.message_id
    assert second.receipt != first.receipt
    assert second.receives == 2


def test_a_returned_message_is_visible_at_once(queue: JobQueue) -> None:
    """A message that is returned without a delay can be received at once."""
    queue.send([message(1)])
    queue.release(take(queue), delay=NOW)
    assert take(queue).receives == 2


def test_a_message_can_be_returned_with_a_delay(queue: JobQueue) -> None:
    """A message that is returned with a delay stays hidden until then."""
    queue.send([message(1)])
    queue.release(take(queue), delay=timedelta(seconds=2))
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None
    assert take(queue).receives == 2


def test_an_extended_delivery_stays_hidden(queue: JobQueue) -> None:
    """An extension hides the message for the given time from now on."""
    queue.send([message(1)])
    delivery = take(queue, hidden=timedelta(seconds=2))
    assert queue.extend(delivery, hidden=HIDDEN) is True
    assert queue.receive(hidden=HIDDEN, wait=timedelta(seconds=3)) is None


def test_extending_past_the_cap_is_shortened(queue: JobQueue) -> None:
    """An extension past the service's limit of 12 hours is shortened, not refused."""
    queue.send([message(1)])
    assert queue.extend(take(queue), hidden=timedelta(hours=12)) is True


def test_many_messages_are_sent_and_received(queue: JobQueue) -> None:
    """More messages than fit in a batch are sent and received once each, and counted."""
    assert queue.send([message(number) for number in range(25)]) == []
    assert queue.depth().available == 25
    got = [take(queue) for _ in range(25)]
    assert len({delivery.body for delivery in got}) == 25
    assert queue.depth().in_flight == 25


def test_a_queue_without_dead_letters_has_no_receive_limit(queue: JobQueue) -> None:
    """A queue that moves no message away has no limit on receives."""
    assert queue.receive_limit() is None


def test_purging_leaves_nothing(queue: JobQueue) -> None:
    """After a purge no message is visible or in flight."""
    queue.send([message(1), message(2)])
    take(queue)
    queue.purge()
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None
    depth = queue.depth()
    assert (depth.available, depth.in_flight) == (0, 0)


def test_a_stale_receipt_raises_nothing(queue: JobQueue) -> None:
    """Calls with a stale receipt raise nothing; their effect is not specified."""
    queue.send([message(1)])
    stale = take(queue, hidden=timedelta(seconds=1))
    fresh = take(queue)
    queue.extend(stale, hidden=HIDDEN)
    queue.release(stale, delay=timedelta(seconds=1))
    queue.delete(stale)
    queue.delete(fresh)
