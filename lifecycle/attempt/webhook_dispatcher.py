"""The webhook dispatcher: delivers the notices in the record's outbox for as long as an attempt lasts.

It delivers only notices that are known to be recorded, and the next write that goes out anyway removes those that were
delivered. The attempt waits for it only briefly, at its end. What is left stays in the record, for the next attempt or,
if there is none, for `holdfast reconcile`.
"""

import math
from typing import Final

from lifecycle.attempt.context import WorkerContext
from lifecycle.errors import HoldfastError, PermanentError, RetryableError
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.periodic_thread import PeriodicThread
from lifecycle.ports.notifier import Notifier
from lifecycle.record.notifications import without_delivered
from lifecycle.record.session import RecordSession
from lifecycle.states import OWNED
from lifecycle.structured_log import StructuredLogger

SCAN_S: Final = 2.0  # between two looks at the outbox
LONGEST_S: Final = 300.0  # between two tries while the receiver is down
LAST_S: Final = 3.0  # for what is left at the attempt's end: the next job waits for it
AGAIN_S: Final = 1.0  # between two tries at the attempt's end
OUTBOX: Final = "outbox"  # topic of the note that removes what was delivered

log = StructuredLogger("holdfast.webhook_dispatcher")


class WebhookDispatcher:
    """Delivers an attempt's notices, and those that earlier attempts left, in order.

    Args:
        context: Clock and jitter are used.
        notifier: Delivers one notice.
        keys: The job's keys.
        session: The attempt's hold on its record.
    """

    def __init__(self, context: WorkerContext, notifier: Notifier, keys: JobKeys, *, session: RecordSession) -> None:
        self._clock = context.clock
        self._rng = context.rng
        self._notifier = notifier
        self._keys = keys
        self._session = session
        self._done: frozenset[str] = frozenset()
        self._until = math.inf
        self._pause_s = SCAN_S
        self._thread = PeriodicThread(
            context.clock,
            name=f"webhook-dispatcher-{keys.job}",
            action=self._scan,
            first_s=SCAN_S,
            on_stopped=self._deliver_last,
            on_error=self._log_crash,
            yields=True,
        )

    def stop(self) -> None:
        """Deliver nothing more. Never waits; safe to repeat."""
        self._until = -math.inf
        self._thread.request_stop()

    def finish(self) -> None:
        """Deliver what is left, for LAST_S at most; then remove from the record what was delivered. Never fails."""
        self._until = self._clock.monotonic() + LAST_S
        self._thread.stop(timeout_s=LAST_S)
        self.stop()
        self._clear()

    def _scan(self) -> float:
        """Deliver what is recorded, and return the seconds until the next look: longer after each failure."""
        if self._deliver():
            self._pause_s = SCAN_S
        else:
            self._pause_s = min(2 * self._pause_s, LONGEST_S) * self._rng.uniform(0.8, 1.0)
        return self._pause_s

    def _deliver_last(self) -> None:
        while not (self._deliver() or self._is_over):
            self._clock.sleep(AGAIN_S)

    @property
    def _is_over(self) -> bool:
        return self._clock.monotonic() >= self._until

    def _deliver(self) -> bool:
        """Deliver every recorded notice; return False if that did not succeed and should be tried again."""
        for notice in self._session.record.outbox.notices:
            if self._is_over:
                return False
            if notice.id in self._done:
                continue
            try:
                self._notifier.deliver(self._keys, notice)
            except RetryableError as error:
                log.warning("webhook.not_delivered", notice=notice.id, error=error)
                return False
            except PermanentError as error:
                log.warning("webhook.dropped", notice=notice.id, error=error)
            self._note(notice)
        return True

    def _note(self, notice: Notice) -> None:
        """Let the next write remove all that was ever delivered, since an earlier note may have been dropped."""
        self._done |= {notice.id}
        self._session.note(OUTBOX, without_delivered(self._done))

    def _clear(self) -> None:
        """Remove what was delivered and is still there, unless the job may be ours: that would renew a lease."""
        record = self._session.record
        left = {notice.id for notice in record.outbox.notices}
        if record.state in OWNED or not left & self._done:
            return
        try:
            self._session.write(without_delivered(self._done))
        except HoldfastError as error:  # they may be delivered once more, which their ids show
            log.info("outbox.not_cleared", job=self._keys.job, error=error)

    def _log_crash(self, error: Exception) -> None:
        log.exception("webhook_dispatcher.crashed", job=self._keys.job, error=error)  # noqa: LOG004 - called by a handler
