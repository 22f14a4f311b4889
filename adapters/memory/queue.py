"""MemoryQueue: SQS in memory, as the real one behaves where emulators are kinder.

An extension of an expired delivery answers yes and does nothing; a FIFO delete after expiry removes nothing; an equal
dedup id is accepted and swallowed for five minutes, whatever became of the first; one delivery of a group hides the
rest of the group; a delivery is held for 12 hours at most, counted from the receive; retention counts from the send;
every receive counts towards the dead-letter limit. Sources: `../shared/facts/sqs-r2.md`, section A.
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

CAP_S: Final = 43_200.0  # SQS holds no delivery longer, counted from the receive
CAP_MARGIN_S: Final = 60.0
DEDUP_S: Final = 300.0
RETENTION_S: Final = 14 * 86_400.0
MAX_BYTES: Final = 1 << 20
ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot say
POLL_S: Final = 0.1


@define(eq=False)
class _Kept:
    """A message in the queue."""

    number: int
    message: Message
    sent_at: float
    visible_at: float
    receives: int = 0
    received_at: float = 0.0
    receipt: str | None = None


class MemoryQueue:
    """See `lifecycle.ports.queue.JobQueue`.

    Args:
        clock: For every time-out.
        fifo: Whether it orders by job, and drops duplicates.
        max_receives: Deliveries before a message is moved to `dead`; None is never.
        retention_s: Seconds until a message disappears.
        has_dead_letters: Whether `dead_letter` has somewhere to go.
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
        """Bodies that were dead-lettered, with the reason."""
        self._clock = clock
        self._fifo = fifo
        self._max_receives = max_receives
        self._retention_s = retention_s
        self._has_dead_letters = has_dead_letters
        self._messages: list[_Kept] = []
        self._seen: dict[str, float] = {}
        self._count = 0
        self._lock = threading.Lock()

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See the port."""
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
        """See the port."""
        now = self._clock.monotonic()
        left_s = CAP_S - CAP_MARGIN_S - (now - delivery.received_at)
        with self._lock:
            kept = self._find(delivery)
            if kept is None or left_s <= 0:
                return False
            if kept.visible_at > now:  # otherwise: yes, and nothing happens
                kept.visible_at = now + min(hidden.total_seconds(), left_s)
            return True

    def release(self, delivery: Delivery, *, delay: timedelta) -> None:
        """See the port."""
        now = self._clock.monotonic()
        with self._lock:
            kept = self._find(delivery)
            if kept and kept.visible_at > now:
                kept.visible_at = now + delay.total_seconds()
                if self._fifo:
                    kept.receipt = None

    def delete(self, delivery: Delivery) -> None:
        """See the port."""
        with self._lock:
            kept = self._find(delivery)
            if kept and not (self._fifo and kept.visible_at <= self._clock.monotonic()):
                self._messages.remove(kept)

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See the port."""
        failures = []
        now = self._clock.monotonic()
        with self._lock:
            for message in messages:
                if not isinstance(message.body, str) or ILLEGAL.search(message.body):
                    failures.append(SendFailure(message, "a body must be text, of characters that XML can say"))
                elif not 0 < len(message.body.encode()) <= MAX_BYTES:
                    failures.append(SendFailure(message, f"a body must be text of 1 to {MAX_BYTES} bytes"))
                elif not self._is_duplicate(message, now):
                    self._count += 1
                    self._messages.append(_Kept(self._count, message, now, now))
        return failures

    def dead_letter(self, delivery: Delivery, *, reason: str) -> bool:
        """See the port."""
        if self._has_dead_letters:
            self.dead.append((delivery.body, reason))
        return self._has_dead_letters

    def depth(self) -> Depth:
        """See the port."""
        now = self._clock.monotonic()
        with self._lock:
            hidden = [kept for kept in self._messages if kept.visible_at > now]
            return Depth(len(self._messages) - len(hidden), len(hidden), 0)

    def purge(self) -> None:
        """See the port."""
        with self._lock:
            self._messages.clear()

    def _take(self, hidden_s: float, asked_at: float) -> Delivery | None:
        if not 0 < hidden_s <= CAP_S:
            raise PermanentError(f"a delivery is hidden for more than 0 and at most {CAP_S} s, not {hidden_s}")
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

    def _deliverable(self, now: float) -> list[_Kept]:
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

    def _find(self, delivery: Delivery) -> _Kept | None:
        return next((kept for kept in self._messages if kept.receipt == delivery.receipt), None)


if TYPE_CHECKING:

    def _conforms(queue: MemoryQueue) -> JobQueue:
        return queue
