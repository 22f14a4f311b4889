"""Running calls in several threads, for work that waits more than it computes; and limiting the rate of uploads."""

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import frozen

from lifecycle.ports.clock import Clock, Mailbox

WAIT_S: Final = 3600.0  # arbitrary: a pool only waits for tasks, and every task ends


@frozen
class _Finished:
    """Message from a thread to its pool.

    Attributes:
        error: The exception that the task raised; None if it succeeded.
    """

    error: Exception | None


class ThreadPool:
    """Runs each task in a thread of its own, a limited number of them at a time.

    It is used by one thread. It exists because `concurrent.futures` starts threads by itself, and everything in the
    core that runs or waits has to go through `Clock`.

    Args:
        clock: Source of threads.
        name: Name of the threads.
        max_threads: How many tasks may run at a time.
    """

    def __init__(self, clock: Clock, *, name: str, max_threads: int) -> None:
        self._clock = clock
        self._name = name
        self._max_threads = max_threads
        self._running = 0
        self._finished: Mailbox[_Finished] = clock.mailbox()
        self._error: Exception | None = None

    def submit(self, task: Callable[[], None]) -> None:
        """Start *task*, after waiting for a free thread if all are in use.

        Raises:
            Exception: The exception of the first task that failed; *task* was not started.
        """
        while self._running >= self._max_threads:
            self._await_one()
        if self._error:
            raise self._error
        self._running += 1
        self._clock.start_thread(partial(self._run, task), name=self._name)

    def finish(self) -> None:
        """Wait until all tasks have ended. Safe to repeat.

        Raises:
            Exception: The exception of the first task that failed. No task is running any more.
        """
        while self._running:
            self._await_one()
        if self._error:
            raise self._error

    def _await_one(self) -> None:
        finished = self._finished.get(WAIT_S)
        if finished:
            self._running -= 1
            self._error = self._error or finished.error

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - raised again by the next call of submit or finish
            self._finished.put(_Finished(error))
        else:
            self._finished.put(_Finished(None))


class RateLimiter:
    """Keeps the average rate of uploads below a limit. Thread-safe.

    Args:
        clock: Source of time and pauses.
        bytes_per_s: The limit; 0 for none.
    """

    def __init__(self, clock: Clock, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at = clock.monotonic()
        self._lock = clock.lock()

    def wait(self, size_bytes: int) -> None:
        """Wait until *size_bytes* more may be sent."""
        if not self.bytes_per_s:
            return
        with self._lock:  # reserve a time slot; the pause itself must not hold up threads that reserve the next one
            begin = max(self._free_at, self._clock.monotonic())
            self._free_at = begin + size_bytes / self.bytes_per_s
        self._clock.sleep(begin - self._clock.monotonic())
