"""What every JobQueue promises, and nothing that one of them merely does."""

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


def test_what_was_sent_is_delivered(queue: JobQueue) -> None:
    """Body as sent, counted once."""
    assert queue.send([message(1, '{"text": "é\\" <&>"}')]) == []
    delivery = take(queue)
    assert delivery.body == '{"text": "é\\" <&>"}'
    assert delivery.receives == 1
    assert delivery.message_id


def test_an_empty_queue_delivers_nothing(queue: JobQueue) -> None:
    """And does not wait if it is not to."""
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None


def test_a_delivered_message_is_hidden_and_a_deleted_one_is_gone(queue: JobQueue) -> None:
    """For as long as was asked."""
    queue.send([message(1)])
    delivery = take(queue)
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None
    queue.delete(delivery)
    queue.delete(delivery)
    depth = queue.depth()
    assert (depth.available, depth.in_flight) == (0, 0)


def test_a_message_that_nobody_deletes_comes_again(queue: JobQueue) -> None:
    """With the same name, another receipt, and a higher count."""
    queue.send([message(1)])
    first = take(queue, hidden=timedelta(seconds=1))
    second = take(queue)
    assert second.message_id == first.message_id
    assert second.receipt != first.receipt
    assert second.receives == 2


def test_a_released_message_is_there_at_once(queue: JobQueue) -> None:
    """For everybody."""
    queue.send([message(1)])
    queue.release(take(queue), delay=NOW)
    assert take(queue).receives == 2


def test_a_message_can_be_released_for_later(queue: JobQueue) -> None:
    """It stays hidden for the delay."""
    queue.send([message(1)])
    queue.release(take(queue), delay=timedelta(seconds=2))
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None
    assert take(queue).receives == 2


def test_an_extended_delivery_stays_hidden(queue: JobQueue) -> None:
    """From the moment of the extension."""
    queue.send([message(1)])
    delivery = take(queue, hidden=timedelta(seconds=2))
    assert queue.extend(delivery, hidden=HIDDEN) is True
    assert queue.receive(hidden=HIDDEN, wait=timedelta(seconds=3)) is None


def test_extending_past_the_cap_is_cut_not_refused(queue: JobQueue) -> None:
    """12 hours from the receive is the most that any queue here gives."""
    queue.send([message(1)])
    assert queue.extend(take(queue), hidden=timedelta(hours=12)) is True


def test_many_messages_go_out_and_come_in(queue: JobQueue) -> None:
    """More than one batch; each exactly once where nothing goes wrong; counted meanwhile."""
    assert queue.send([message(number) for number in range(25)]) == []
    assert queue.depth().available == 25
    got = [take(queue) for _ in range(25)]
    assert len({delivery.body for delivery in got}) == 25
    assert queue.depth().in_flight == 25


def test_purging_leaves_nothing(queue: JobQueue) -> None:
    """Neither visible nor in flight."""
    queue.send([message(1), message(2)])
    take(queue)
    queue.purge()
    assert queue.receive(hidden=HIDDEN, wait=NOW) is None
    depth = queue.depth()
    assert (depth.available, depth.in_flight) == (0, 0)


def test_a_stale_receipt_harms_nobody(queue: JobQueue) -> None:
    """Whatever is done with it, nothing raises, and nothing is promised of it."""
    queue.send([message(1)])
    stale = take(queue, hidden=timedelta(seconds=1))
    fresh = take(queue)
    queue.extend(stale, hidden=HIDDEN)
    queue.release(stale, delay=timedelta(seconds=1))
    queue.delete(stale)
    queue.delete(fresh)
