"""MemoryQueue: SQS in memory, with the strict behaviour of the real service where emulators are lenient.

- The extension of an expired delivery is confirmed but does nothing.
- On FIFO, deleting with an expired receipt removes nothing; a message whose dedup id was sent in the last five minutes
  is accepted and dropped, even if the first was deleted; and a delivery hides the rest of its group.
- A message is invisible for 12 hours at most, counted from the receive. Retention counts from the send. Every receive
  counts towards the dead-letter limit.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html and
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-exactly-once-processing.html
"""

import re
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from attrs import define

from lifecycle.errors import PermanentError
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, Depth, JobQueue, Message, SendFailure

CAP_S: Final = 43_200.0  # a message is invisible for at most 12 h from the receive
CAP_MARGIN_S: Final = 60.0  # the SQS adapter stays this far below the cap
DEDUP_S: Final = 300.0  # SQS drops a duplicate for so long
RETENTION_S: Final = 14 * 86_400.0  # SQS's maximum
MAX_BYTES: Final = 1 << 20  # of a body
ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # not allowed in XML
POLL_S: Final = 0.1  # between two looks for a message


@define(eq=False)
class _QueuedMessage:
    """A message in the queue."""

    number: int
    message: Message
    sent_at: float
    visible_at: float
    receives: int = 0
    received_at: float = 0.0
    receipt: str | None = None


class MemoryQueue:
    """A queue in memory. Thread-safe.

    Args:
        clock: Used for every time-out.
        fifo: Order messages by job, and drop duplicates.
        max_receives: Receives before a message is moved to `dead`; None: no limit.
        retention_s: Seconds until a message is removed.
        has_dead_letters: Provide a dead-letter queue.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        fifo: bool = False,
        max_receives: int | None = None,
        retention_s: float = RETENTION_S,
        has_dead_letters: bool = True,
    ) -> None:
        self.dead: list[tuple[str, str]] = []
        """Bodies of dead letters, with their reasons."""
        self._clock = clock
        self._fifo = fifo
        self._max_receives = max_receives
        self._retention_s = retention_s
        self._has_dead_letters = has_dead_letters
        self._messages: list[_QueuedMessage] = []
        self._seen: dict[str, float] = {}
        self._count = 0
        self._lock = threading.Lock()

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `JobQueue.receive`."""
        asked_at = self._clock.monotonic()
        deadline = asked_at + wait.total_seconds()
        while (delivery := self._take(hidden.total_seconds(), asked_at)) is None:
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                return None
            self._clock.sleep(min(POLL_S, left_s))
            asked_at = self._clock.monotonic()
        return delivery

    def extend(self, delivery: Delivery, *, hidden: timedelta) -> bool:
        """See `JobQueue.extend`."""
        now = self._clock.monotonic()
        left_s = CAP_S - CAP_MARGIN_S - (now - delivery.received_at)
        with self._lock:
            kept = self._find(delivery)
            if kept is None or left_s <= 0:
                return False
            if kept.visible_at > now:  # otherwise it has expired: confirm, and do nothing
                kept.visible_at = now + min(hidden.total_seconds(), left_s)
            return True

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See `JobQueue.release`."""
        now = self._clock.monotonic()
        with self._lock:
            kept = self._find(delivery)
            if kept and kept.visible_at > now:
                kept.visible_at = now + delay.total_seconds()
                if self._fifo:
                    kept.receipt = None

    def delete(self, delivery: Delivery) -> None:
        """See `JobQueue.delete`."""
        with self._lock:
            kept = self._find(delivery)
            if kept and not (self._fifo and kept.visible_at <= self._clock.monotonic()):
                self._messages.remove(kept)

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `JobQueue.send`."""
        failures = []
        now = self._clock.monotonic()
        with self._lock:
            for message in messages:
                if not isinstance(message.body, str) or ILLEGAL.search(message.body):
                    failures.append(SendFailure(message, "a body must be text, of characters that XML allows"))
                elif not 0 < len(message.body.encode()) <= MAX_BYTES:
                    failures.append(SendFailure(message, f"a body must be text of 1 to {MAX_BYTES} bytes"))
                elif not self._is_duplicate(message, now):
                    self._count += 1
                    self._messages.append(_QueuedMessage(self._count, message, now, now))
        return failures

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See `JobQueue.dead_letter`."""
        if self._has_dead_letters:
            self.dead.append((delivery.body, reason))
        return self._has_dead_letters

    def receive_limit(self) -> int | None:
        """See `JobQueue.receive_limit`."""
        return self._max_receives

    def depth(self) -> Depth:
        """See `JobQueue.depth`."""
        now = self._clock.monotonic()
        with self._lock:
            hidden = [kept for kept in self._messages if kept.visible_at > now]
            return Depth(len(self._messages) - len(hidden), len(hidden), 0)

    def purge(self) -> None:
        """See `JobQueue.purge`."""
        with self._lock:
            self._messages.clear()

    def _take(self, hidden_s: float, asked_at: float) -> Delivery | None:
        if not 0 < hidden_s <= CAP_S:
            raise PermanentError(f"invalid visibility timeout {hidden_s} s: it must be above 0 and at most {CAP_S} s")
        now = self._clock.monotonic()
        with self._lock:
            self._expire(now)
            kept = next(iter(self._deliverable(now)), None)
            if kept is None:
                return None
            kept.receives += 1
            kept.received_at = asked_at
            kept.visible_at = now + hidden_s
            kept.receipt = f"{kept.number}/{kept.receives}"
            return Delivery(kept.message.body, f"message-{kept.number}", kept.receipt, kept.receives, asked_at)

    def _deliverable(self, now: float) -> list[_QueuedMessage]:
        blocked = {kept.message.job for kept in self._messages if kept.visible_at > now} if self._fifo else set()
        return [kept for kept in self._messages if kept.visible_at <= now and kept.message.job not in blocked]

    def _expire(self, now: float) -> None:
        for kept in list(self._messages):
            if now - kept.sent_at >= self._retention_s:
                self._messages.remove(kept)
            elif self._max_receives is not None and kept.visible_at <= now and kept.receives >= self._max_receives:
                self._messages.remove(kept)
                self.dead.append((kept.message.body, f"received {kept.receives} times"))

    def _is_duplicate(self, message: Message, now: float) -> bool:
        if not self._fifo:
            return False
        before = self._seen.get(message.dedup)
        if before is not None and now - before < DEDUP_S:
            return True
        self._seen[message.dedup] = now
        return False

    def _find(self, delivery: Delivery) -> _QueuedMessage | None:
        return next((kept for kept in self._messages if kept.receipt == delivery.receipt), None)


if TYPE_CHECKING:

    def _conforms(queue: MemoryQueue) -> JobQueue:
        return queue
