"""Port for time, waiting and threads.

The core sleeps, blocks and starts threads only through a `Clock`. A test or a simulation that implements it therefore
controls every interleaving and every time-out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Thread(Protocol):
    """A thread that was started by `Clock.start_thread`."""

    def join(self, timeout_s: float) -> bool:
        """Wait up to *timeout_s* seconds for the thread to end. Safe to repeat.

        Returns:
            True if the thread has ended.
        """


class Mailbox(Protocol[T]):
    """An unbounded first-in first-out queue between threads."""

    def put(self, item: T) -> None:
        """Append *item*. Never blocks and never fails, so a signal handler may call it."""

    def get(self, timeout_s: float) -> T | None:
        """Remove and return the oldest item.

        Args:
            timeout_s: How long to wait for an item, in seconds; 0 does not wait.

        Returns:
            The item, or None if none arrived in time.
        """


class Clock(Protocol):
    """Time, waiting and threads of one process. Every method may be called from any thread."""

    def now(self) -> datetime:
        """Return the node's wall-clock time, in UTC.

        It is for people to read. Never compare it with the clock of another node, or measure a duration with it.
        """

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment of this process; never decreases. Measure durations with it."""

    def sleep(self, delay_s: float) -> None:
        """Block for *delay_s* seconds; return at once if that is zero or less."""

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> Thread:
        """Start *run* in a daemon thread.

        Args:
            run: The thread's body.
            name: The thread's name, for people who debug.
            yields: Give every other process on this machine, the workload above all, precedence over the thread and
                the threads that it starts.
        """

    def mailbox(self) -> Mailbox[Any]:
        """Create an empty mailbox."""

    def lock(self) -> AbstractContextManager[object]:
        """Create a mutual-exclusion lock that is free and not re-entrant."""
