"""The postman: a thread that delivers what lies in the record's outbox, for as long as an attempt lasts.

It delivers only what is known to be recorded, and what is delivered is taken out by the next write that goes out
anyway. Nobody waits for it, but for a moment at the attempt's end. What it did not get rid of stays in the record: for
the next attempt, or, where none comes, for `holdfast reconcile`.
"""

import logging
import math
from typing import Final

from attrs import frozen

from lifecycle.attempt.context import WorkerContext
from lifecycle.errors import HoldfastError, PermanentError, RetryableError
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.ports.clock import Mailbox, Thread
from lifecycle.ports.notifier import Notifier
from lifecycle.record.notifications import without_delivered
from lifecycle.record.session import RecordSession
from lifecycle.states import OWNED

LOOK_S: Final = 2.0  # between two looks at the outbox
LONGEST_S: Final = 300.0  # between two tries, while the receiver is down
LAST_S: Final = 3.0  # for what is left at the attempt's end: the next job waits for it
AGAIN_S: Final = 1.0  # between two tries then
OUTBOX: Final = "outbox"

log = logging.getLogger("holdfast.postman")


@frozen
class _Stop:
    """No more than what is left."""


class WebhookDispatcher:
    """Delivers one attempt's notices, and those that earlier ones left, in order.

    Args:
        context: Clock and jitter are used.
        notifier: Brings them.
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
        self._inbox: Mailbox[_Stop] = context.clock.mailbox()
        self._thread: Thread = context.clock.start_thread(self._run, name=f"webhook-dispatcher-{keys.job}", yields=True)

    def stop(self) -> None:
        """Deliver nothing more. Never waits; safe to repeat."""
        self._until = -math.inf
        self._inbox.put(_Stop())

    def finish(self) -> None:
        """Deliver what is left, for LAST_S at most; then take out of the record what was delivered. Never fails."""
        self._until = self._clock.monotonic() + LAST_S
        self._inbox.put(_Stop())
        self._thread.join(LAST_S)
        self.stop()
        self._clear()

    def _run(self) -> None:
        pause_s = LOOK_S
        try:
            while self._inbox.get(pause_s) is None:
                is_done = self._deliver()
                pause_s = LOOK_S if is_done else min(2 * pause_s, LONGEST_S) * self._rng.uniform(0.8, 1.0)
            while not (self._deliver() or self._is_over):
                self._clock.sleep(AGAIN_S)
        except Exception:
            log.exception("%s: the postman came to grief; notices stay in the record", self._keys.job)

    @property
    def _is_over(self) -> bool:
        return self._clock.monotonic() >= self._until

    def _deliver(self) -> bool:
        """Deliver all that is recorded; False if that did not succeed, and should be tried again."""
        outbox = self._session.record.outbox
        for notice in outbox.notices:
            if self._is_over:
                return False
            if notice.id in self._done:
                continue
            try:
                self._notifier.deliver(self._keys, notice)
            except RetryableError as error:
                log.warning("%s is not delivered yet: %s", notice.id, error)
                return False
            except PermanentError as error:
                log.warning("%s is dropped: %s", notice.id, error)
            self._note(notice)
        return True

    def _note(self, notice: Notice) -> None:
        """Let it be taken out by the next write. All that was ever delivered is: a note may be forgotten on the way."""
        self._done |= {notice.id}
        self._session.note(OUTBOX, without_delivered(self._done))

    def _clear(self) -> None:
        """Take out what was delivered and is still there. Not while the job may be ours: that would renew a lease."""
        record = self._session.record
        left = {notice.id for notice in record.outbox.notices}
        if record.state in OWNED or not left & self._done:
            return
        try:
            self._session.write(without_delivered(self._done))
        except HoldfastError as error:  # they may be delivered once more, which their ids show
            log.info("%s: what was delivered stays in the record: %s", self._keys.job, error)
