"""The log shipper: brings the attempt's event log and the workload's console to the bucket while it runs."""

from typing import Final

from lifecycle.attempt.console_segments import ConsoleCopy
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.event_log import EventLog
from lifecycle.key_layout import JobKeys
from lifecycle.periodic_thread import PeriodicThread
from lifecycle.ports.runner import JobDirs
from lifecycle.structured_log import StructuredLogger

FIRST_S: Final = 5.0  # so soon there is something to see
INTERVAL_S: Final = 20.0

log = StructuredLogger("holdfast.log_shipper")


class LogShipper:
    """Ships what is new several times a minute, until it is stopped. Its failures do no harm to the attempt.

    Args:
        context: Store and clock are used.
        keys: The job's keys.
        epoch: The attempt's number.
        event_log: The attempt's event log.
        dirs: The job's directories on this node.
    """

    def __init__(
        self, context: WorkerContext, keys: JobKeys, *, epoch: int, event_log: EventLog, dirs: JobDirs
    ) -> None:
        self._store = context.store
        self._keys = keys
        self._event_log = event_log
        self._console = ConsoleCopy(context.store, keys, epoch=epoch, dirs=dirs)
        self._thread = PeriodicThread(
            context.clock,
            name=f"log-shipper-{keys.job}",
            action=self._ship_periodically,
            first_s=FIRST_S,
            on_error=self._log_crash,
            yields=True,
        )

    def stop(self, *, timeout_s: float) -> bool:
        """End the thread, and return whether it ended in time. Safe to repeat."""
        return self._thread.stop(timeout_s=timeout_s)

    def ship(self) -> None:
        """Ship what is new. Never fails; call it from one thread at a time."""
        self._event_log.flush(self._store, self._keys)
        self._console.ship()

    def _ship_periodically(self) -> float:
        self.ship()
        return INTERVAL_S

    def _log_crash(self, error: Exception) -> None:
        log.exception("log_shipper.crashed", job=self._keys.job, error=error)  # noqa: LOG004 - called by a handler
