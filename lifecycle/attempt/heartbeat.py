"""The heartbeat: a thread that renews the lease in the record, and the delivery's invisibility in the queue.

The record first: it decides. That the queue answers OK proves nothing (SQS may answer so for an expired receipt).
"""

import logging
from datetime import timedelta
from typing import Final

from attrs import frozen

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.events import CancelAsked, Event, LeaseLost, ThreadDied
from lifecycle.errors import HoldfastError, LeaseLostError
from lifecycle.ports.clock import Mailbox, Thread
from lifecycle.ports.queue import Delivery
from lifecycle.record.session import RecordSession

FIRST_S: Final = 2.0  # the first beat comes early: it carries the first changes of state
OVERLAP: Final = timedelta(seconds=2)  # a redelivered message finds a lease that has run out, not one about to

log = logging.getLogger("holdfast.heartbeat")


@frozen
class _Stop:
    """No more."""


class Heartbeat:
    """Beats for one attempt until stopped, or until the lease is proven lost.

    Args:
        context: Clock, queue and policy are used.
        session: The attempt's hold on its record.
        delivery: What woke us.
        events: Where to tell of a lost lease, a cancellation, or our own end.
    """

    def __init__(
        self, context: WorkerContext, *, session: RecordSession, delivery: Delivery, events: Mailbox[Event]
    ) -> None:
        self._context = context
        self._session = session
        self._delivery = delivery
        self._events = events
        self._cancel_told = False
        self._inbox: Mailbox[_Stop] = context.clock.mailbox()
        self._thread: Thread = context.clock.start_thread(self._run, name=f"heartbeat-{session.record.job}")

    def stop(self, *, timeout_s: float) -> bool:
        """Beat no more; True if the thread ended in time. Safe to repeat."""
        self._inbox.put(_Stop())
        return self._thread.join(timeout_s)

    def _run(self) -> None:
        interval_s = self._context.limits.heartbeat.total_seconds()
        wait_s = min(FIRST_S, interval_s)
        try:
            while self._inbox.get(wait_s) is None:
                self._beat()
                wait_s = interval_s
        except LeaseLostError as error:
            self._events.put(LeaseLost(str(error)))
        except Exception as error:  # noqa: BLE001 - no thread may die in silence
            self._events.put(ThreadDied("heartbeat", error))

    def _beat(self) -> None:
        self._context.alive()
        try:
            self._session.beat()
        except LeaseLostError:
            raise
        except HoldfastError as error:
            log.warning("beat of %s not recorded: %s", self._session.record.job, error)
        if self._session.record.control.cancel and not self._cancel_told:
            self._cancel_told = True
            self._events.put(CancelAsked())
        try:
            self._context.queue.extend(self._delivery, hidden=self._context.limits.lease + OVERLAP)
        except HoldfastError as error:
            log.warning("delivery of %s not extended: %s", self._session.record.job, error)
