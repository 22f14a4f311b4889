"""Port for the queue of job messages, which wakes workers up.

A message may be delivered twice, late, out of order, or never, because the job's record decides everything. Nothing
relies on stronger promises of a real queue, such as exclusive delivery or the permanence of a deletion.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from attrs import frozen


@frozen
class Delivery:
    """One receipt of a message.

    Attributes:
        body: The message as sent, UTF-8 text.
        message_id: The queue's name for the message, the same on every delivery.
        receipt: Opaque name of this delivery, valid only for the queue that made it.
        receives: How often the message has been delivered, including this time; approximate.
        received_at: `Clock.monotonic()` just *before* the receive call was sent. The queue's own time limits start
            later, so a deadline computed from this is on the safe side.
    """

    body: str
    message_id: str
    receipt: str
    receives: int
    received_at: float


@frozen
class Message:
    """A message to send.

    Attributes:
        body: JSON text, ASCII only.
        job: The job's id; orders and groups messages where the queue can (FIFO queues).
        dedup: Deduplication id, equal for two sends of the same announcement and for nothing else. A queue that can
            deduplicate keeps one of them.
    """

    body: str
    job: str
    dedup: str


@frozen
class SendFailure:
    """A message that the queue did not accept.

    Attributes:
        message: The message.
        reason: The queue's reason, in one line.
    """

    message: Message
    reason: str


@frozen
class Depth:
    """Approximate numbers of messages in the queue.

    Attributes:
        available: Ready to be received.
        in_flight: Received, and neither deleted nor visible again.
        delayed: Sent or released with a delay that has not passed.
    """

    available: int
    in_flight: int
    delayed: int


class JobQueue(Protocol):
    """Delivers each message to some worker at least once; rarely to two at a time. Thread-safe.

    Raises, from every method:
        RetryableError: The queue is unreachable or throttles; call again.
        ConfigError: The queue or the credentials are wrong; stop the worker.
        PermanentError: The queue refuses the call for another reason, and would refuse it again.
    """

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """Receive the next message, and hide it from other receivers.

        Args:
            hidden: How long the message stays invisible to others: more than zero, at most 12 hours
                (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html).
            wait: How long to wait for a message, 0 to 20 seconds; zero returns at once.

        Returns:
            The delivery, or None if no message arrived in time.
        """

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """Keep *delivery* invisible for *hidden* from now, or for as long as the queue's limit still allows.

        Safe to repeat.

        Returns:
            False if the queue said that the delivery is no longer ours. True proves nothing: a queue may confirm an
            extension that has no effect.
        """

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """Return the message to the queue, visible to others after *delay* (0 to 12 hours).

        The receipt is void afterwards. Safe to repeat.
        """

    def delete(self, delivery: Delivery) -> None:
        """Remove the message, if the delivery is still ours. Otherwise it may be delivered again. Safe to repeat."""

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """Send any number of messages, in batches of the queue's own size.

        Repeating a send may deliver the message twice, which is harmless. The same is true of a message whose
        confirmation was lost.

        Returns:
            The messages that were not accepted; empty if all were.
        """

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """Copy the message to the dead-letter queue, together with *reason*. Does not delete it here.

        Repeating it may leave two copies.

        Returns:
            False if no dead-letter queue is configured; nothing was copied.
        """

    def receive_limit(self) -> int | None:
        """Return the number of receives after which the queue moves a message away; None if there is no such limit."""

    def depth(self) -> Depth:
        """Count the messages, approximately. Zeros do not prove that all work is done."""

    def purge(self) -> None:
        """Remove all messages, in flight or not. Messages that are sent meanwhile may go too. Safe to repeat."""
