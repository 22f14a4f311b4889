"""Stopping all processes of a job for a moment, so that its files can be copied, and continuing them.

Parents are stopped first, so that no shell sees a stopped child, and continued last. The processes are scanned until
two scans in a row find no new one, because a tree may fork meanwhile. All threads of a process are checked: its main
thread may have exited while another one writes. Processes that were stopped already stay stopped.

The process supervisor imports this module, so it uses only the standard library and only fast imports.
"""

import os
import signal
import time

from adapters.process.process_tree import Process, children, descendants

AGREEING_SCANS = 2
STOPPED_WITHIN_S = 0.2  # of the signal; a thread that takes longer waits in the kernel, for a disk or a driver
FROZEN_WITHIN_S = 1.0
POLL_S = 0.0005


class Freezer:
    """Stops and continues everything below this process.

    Args:
        limit_s: How long the processes may be stopped, in seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._found: set[tuple[int, int]] = set()
        self._stopped: list[Process] = []  # by us, parents first
        self._thaw_at: float | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether the processes are stopped."""
        return self._thaw_at is not None

    def remaining_s(self) -> float | None:
        """Return for how many seconds they may still be stopped; None if they are not."""
        return None if self._thaw_at is None else max(self._thaw_at - time.monotonic(), 0.0)

    def freeze(self) -> str | None:
        """Stop all processes.

        Returns:
            None if all are stopped; otherwise the reason, and all are continued.
        """
        began = time.monotonic()
        self._thaw_at = began + self._limit_s
        problem, agreeing = None, 0
        while problem is None and agreeing < AGREEING_SCANS:
            new = [each for each in descendants(os.getpid(), children()) if each.key not in self._found]
            agreeing = 0 if new else agreeing + 1
            fresh = {process.pid for process in new}
            problem = self._stop([process for process in new if process.parent not in fresh])
            if time.monotonic() - began > min(FROZEN_WITHIN_S, self._limit_s):
                problem = problem or "it starts processes faster than they can be stopped"
        if problem is None and not self._is_complete():
            problem = "a process was continued by another one"
        if problem is not None:
            self.thaw()
        return problem

    def thaw(self) -> bool:
        """Continue the processes that were stopped by `freeze`.

        Returns:
            Whether everything was stopped until now, and not for too long.
        """
        kept = self._thaw_at is not None and time.monotonic() < self._thaw_at and self._is_complete()
        for process in reversed(self._stopped):
            process.send(signal.SIGCONT)
        self.forget()
        return kept

    def forget(self) -> None:
        """Leave the processes as they are, because they are going to be killed."""
        self._found, self._stopped, self._thaw_at = set(), [], None

    def _stop(self, processes: list[Process]) -> str | None:
        """Stop processes of which none is the parent of another; return why one of them does not stop."""
        self._found.update(process.key for process in processes)
        running = [process for process in processes if not process.is_stopped()]
        for process in running:
            self._stopped.append(process)
            process.send(signal.SIGSTOP)
        deadline = time.monotonic() + STOPPED_WITHIN_S
        while running := [process for process in running if not process.is_stopped()]:
            if time.monotonic() > deadline:
                return f"process {running[0].pid} does not stop: {running[0].obstacle()}"
            time.sleep(POLL_S)
        return None

    def _is_complete(self) -> bool:
        """Return whether there is no process but those that were found, and none of them runs."""
        now = descendants(os.getpid(), children())
        return all(process.key in self._found and process.is_stopped() for process in now)
