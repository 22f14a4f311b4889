"""Deliveries that a worker keeps while it waits to see whether a job's owner is alive.

In a store that gives no ages, only a second read shows that. The message stays hidden meanwhile, so that the worker
that read first is the one that reads again, and the worker serves other messages.
"""

from datetime import timedelta
from typing import Final

from attrs import frozen

from lifecycle.errors import HoldfastError
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import Delivery, JobQueue
from lifecycle.structured_log import StructuredLogger

MARGIN: Final = timedelta(seconds=10)  # a kept message stays hidden for longer than the wait, to be claimed meanwhile

log = StructuredLogger("holdfast.worker")


@frozen
class _Kept:
    delivery: Delivery
    due_at: float
    hidden_until: float


class KeptDeliveries:
    """The deliveries that one worker keeps.

    Args:
        queue: Where they came from.
        clock: Measures the waits.
    """

    def __init__(self, queue: JobQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._kept: list[_Kept] = []

    def keep(self, delivery: Delivery, wait: timedelta) -> None:
        """Hide *delivery* for *wait* and MARGIN, and return it from `next_due` once *wait* is over."""
        now = self._clock.monotonic()
        try:
            is_ours = self._queue.extend(delivery, hidden=wait + MARGIN)
        except HoldfastError as error:  # it becomes visible again by itself
            log.warning("delivery.not_kept", message=delivery.message_id, error=error)
            return
        if is_ours:
            self._kept.append(_Kept(delivery, now + wait.total_seconds(), now + (wait + MARGIN).total_seconds()))

    def next_due(self) -> Delivery | None:
        """Return a delivery whose wait is over, and forget it; None if there is none.

        Those that became visible again, because the worker was busy, are forgotten too.
        """
        now = self._clock.monotonic()
        self._kept = [kept for kept in self._kept if now < kept.hidden_until]
        due = next((kept for kept in self._kept if now >= kept.due_at), None)
        if due is None:
            return None
        self._kept.remove(due)
        return due.delivery

    def wait_until_due(self, longest: timedelta) -> timedelta:
        """Return the time until the next wait is over, at most *longest*."""
        due_at = min((kept.due_at for kept in self._kept), default=None)
        if due_at is None:
            return longest
        return min(timedelta(seconds=max(due_at - self._clock.monotonic(), 0.0)), longest)
