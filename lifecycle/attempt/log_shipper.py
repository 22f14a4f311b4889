"""The courier: a thread that brings the attempt's log and the workload's output to the bucket while it runs."""

import logging
from typing import Final

from attrs import frozen

from lifecycle.attempt.console_segments import ConsoleCopy
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.event_log import EventLog
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Mailbox, Thread
from lifecycle.ports.runner import JobDirs

FIRST_S: Final = 5.0  # after so long there is something to see
INTERVAL_S: Final = 20.0

log = logging.getLogger("holdfast.courier")


@frozen
class _Stop:
    """No more."""


class LogShipper:
    """Ships what is new, several times a minute, until stopped. It is a courtesy: whatever fails harms nothing.

    Args:
        context: Store and clock are used.
        keys: The job's keys.
        epoch: Ours.
        event_log: The attempt's log.
        dirs: The job's directories.
    """

    def __init__(
        self, context: WorkerContext, keys: JobKeys, *, epoch: int, event_log: EventLog, dirs: JobDirs
    ) -> None:
        self._context = context
        self._keys = keys
        self._event_log = event_log
        self._console = ConsoleCopy(context.store, keys, epoch=epoch, dirs=dirs)
        self._inbox: Mailbox[_Stop] = context.clock.mailbox()
        self._thread: Thread = context.clock.start_thread(self._run, name=f"log-shipper-{keys.job}", yields=True)

    def stop(self, *, timeout_s: float) -> bool:
        """Ship no more; True if the thread ended in time. Safe to repeat."""
        self._inbox.put(_Stop())
        return self._thread.join(timeout_s)

    def ship(self) -> None:
        """Ship what is new. Never fails; not from two threads at once."""
        self._event_log.flush(self._context.store, self._keys)
        self._console.ship()

    def _run(self) -> None:
        wait_s = FIRST_S
        while self._inbox.get(wait_s) is None:
            try:
                self.ship()
            except Exception:
                log.exception("%s: the courier came to grief", self._keys.job)
                return
            wait_s = INTERVAL_S
