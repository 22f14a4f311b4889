"""A few threads at once, for calls that wait more than they compute; and a cap on what they send."""

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import frozen

from lifecycle.ports.clock import Clock, Mailbox

WAIT_S: Final = 3600.0  # nothing depends on it: every task ends some time


@frozen
class _Done:
    """A task has ended; *error* is what it raised."""

    error: Exception | None


class ThreadPool:
    """Carries out tasks, each in a thread of its own, so many at once and no more.

    Args:
        clock: Threads and mailbox.
        name: Of the threads.
        at_once: How many.
    """

    def __init__(self, clock: Clock, *, name: str, max_threads: int) -> None:
        self._clock = clock
        self._name = name
        self._at_once = max_threads
        self._busy = 0
        self._done: Mailbox[_Done] = clock.mailbox()
        self._error: Exception | None = None

    def submit(self, task: Callable[[], None]) -> None:
        """Have *task* carried out; waits while there is nobody free.

        Raises:
            Exception: Whatever the first task to fail raised; *task* was not begun then.
        """
        while self._busy >= self._at_once:
            self._hear()
        if self._error:
            raise self._error
        self._busy += 1
        self._clock.start_thread(partial(self._carry_out, task), name=self._name)

    def finish(self) -> None:
        """Wait for all.

        Raises:
            Exception: Whatever the first task to fail raised; no task is being carried out any more.
        """
        while self._busy:
            self._hear()
        if self._error:
            raise self._error

    def _hear(self) -> None:
        done = self._done.get(WAIT_S)
        if done:
            self._busy -= 1
            self._error = self._error or done.error

    def _carry_out(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - it comes out of the next call
            self._done.put(_Done(error))
        else:
            self._done.put(_Done(None))


class RateLimiter:
    """Keeps what is sent below so many bytes a second; thread-safe.

    Args:
        clock: For the pauses.
        limit: Bytes a second; 0 is no limit.
    """

    def __init__(self, clock: Clock, limit: int) -> None:
        self.limit = limit
        self._clock = clock
        self._free_at = clock.monotonic()
        self._lock = clock.lock()

    def wait(self, size: int) -> None:
        """Wait until *size* bytes may be sent."""
        if not self.limit:
            return
        with self._lock:
            begin = max(self._free_at, self._clock.monotonic())
            self._free_at = begin + size / self.limit
        self._clock.sleep(begin - self._clock.monotonic())
