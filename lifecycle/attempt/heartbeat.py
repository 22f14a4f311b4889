"""The heartbeat: renews the lease in the record, then the delivery's invisibility in the queue.

The record comes first, because it decides. An answer of OK from the queue proves nothing: SQS gives it for an expired
receipt too. And an owner that reaches only the queue lets its message become visible when its lease runs out.
"""

from datetime import timedelta
from typing import Final

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.events import CancelAsked, Event, LeaseLost, ThreadDied
from lifecycle.errors import HoldfastError, LeaseLostError
from lifecycle.periodic_thread import PeriodicThread
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.record.session import RecordSession
from lifecycle.states import OWNED
from lifecycle.structured_log import StructuredLogger

FIRST_S: Final = 2.0  # the first beat comes early, because it carries the first changes of state
OVERLAP: Final = timedelta(seconds=2)  # a redelivered message finds a lease that has run out, not one about to

log = StructuredLogger("holdfast.heartbeat")


class Heartbeat:
    """Beats for one attempt until it is stopped, or until the lease is proven lost.

    Args:
        context: Clock, queue and limits are used.
        session: The attempt's hold on its record.
        delivery: The delivery to keep invisible.
        events: Where a lost lease, a cancellation or the end of the thread is announced.
    """

    def __init__(
        self, context: WorkerContext, *, session: RecordSession, delivery: Delivery, events: Mailbox[Event]
    ) -> None:
        self._context = context
        self._session = session
        self._delivery = delivery
        self._events = events
        self._cancel_announced = False
        self._interval_s = context.limits.heartbeat.total_seconds()
        self._thread = PeriodicThread(
            context.clock,
            name=f"heartbeat-{session.record.job}",
            action=self._beat,
            first_s=min(FIRST_S, self._interval_s),
            on_error=self._announce_end,
        )

    def stop(self, *, timeout_s: float) -> bool:
        """End the heartbeat, and return whether its thread ended in time. Safe to repeat."""
        return self._thread.stop(timeout_s=timeout_s)

    def _beat(self) -> float:
        self._context.alive()
        job = self._session.record.job
        try:
            self._session.beat()
        except LeaseLostError:
            raise
        except HoldfastError as error:
            log.warning("heartbeat.not_recorded", job=job, error=error)
        if self._session.record.control.cancel and not self._cancel_announced:
            self._cancel_announced = True
            self._events.put(CancelAsked())
        if (left := self._lease_left()) > timedelta(0):
            try:
                self._context.queue.extend(self._delivery, hidden=left + OVERLAP)
            except HoldfastError as error:
                log.warning("delivery.not_extended", job=job, error=error)
        return self._interval_s

    def _lease_left(self) -> timedelta:
        """Return how long the lease lasts, as last renewed; a job that is over, and is being published, needs none."""
        lease = self._context.limits.lease
        if self._session.record.state not in OWNED:
            return lease
        return lease - timedelta(seconds=self._context.clock.monotonic() - self._session.renewed_at)

    def _announce_end(self, error: Exception) -> None:
        lost = isinstance(error, LeaseLostError)
        self._events.put(LeaseLost(str(error)) if lost else ThreadDied("heartbeat", error))
