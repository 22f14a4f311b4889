"""JobQueue: wakes somebody up. It may deliver twice, late, out of order, or never; the record decides.

Whatever it promises beyond that (exclusive delivery, a deleted message staying deleted) is not relied upon.
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
        message_id: The queue's name for the message; the same on every delivery of it.
        receipt: Opaque; names this delivery to the queue that made it.
        receives: How often the message has been delivered, this time included; approximate.
        received_at: `Clock.monotonic()` from just *before* it was asked for: the queue's own limits count from then.
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
        body: ASCII JSON.
        job: The job id: orders and groups messages where the queue can (FIFO).
        dedup: Equal for two sends of the same announcement, and only then: where the queue can, it keeps one.
    """

    body: str
    job: str
    dedup: str


@frozen
class SendFailure:
    """A message that the queue did not accept, and the queue's reason in a line."""

    message: Message
    reason: str


@frozen
class Depth:
    """Approximate numbers of messages: ready, in somebody's hands, and not yet visible."""

    available: int
    in_flight: int
    delayed: int


class JobQueue(Protocol):
    """Hand deliveries to workers, at least once: a job may rarely reach two.

    Raises, from every method:
        RetryableError: Unreachable or throttled; calling again is safe.
        ConfigError: Wrong queue or credentials; stop the worker.
        PermanentError: The queue refuses it for another reason, and would again.
    """

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """Take the next delivery, waiting at most *wait* (0-20 s) for one; nobody else sees it for *hidden*.

        Args:
            hidden: More than zero, at most 12 h.
            wait: Long-poll budget; zero returns at once.
        """

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """Keep *delivery* invisible for *hidden* from now, cut to what the queue's cap leaves.

        Returns:
            False if the queue said that the delivery is no longer ours. True proves nothing. Safe to repeat.
        """

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """Let others see the message after *delay* (0-12 h). The receipt is void afterwards. Safe to repeat."""

    def delete(self, delivery: Delivery) -> None:
        """Remove the message, if the delivery is still ours; otherwise it may come again. Safe to repeat."""

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """Send any number of messages, in the queue's own batches.

        Returns:
            Those not accepted; empty when all were. A message whose answer was lost may be there twice.
        """

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """Copy the message to the dead-letter queue, with *reason*; does not delete it here.

        Returns:
            False if no dead-letter queue is configured.
        """

    def depth(self) -> Depth:
        """Count messages, approximately. Zero does not mean that all work is done."""

    def purge(self) -> None:
        """Remove every message, in flight or not. Messages sent during the call may go too."""
