"""Clock: time, and all waiting.

Nothing in the core sleeps, starts a thread or blocks except through this port, so that a test or a simulation owns
every interleaving and every time-out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Thread(Protocol):
    """A started thread."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, *timeout_s* seconds at most.

        Returns:
            True if it has ended.
        """


class Mailbox(Protocol[T]):
    """An unbounded first-in first-out queue between threads. `put` may be called from a signal handler."""

    def put(self, item: T) -> None:
        """Append *item*; never blocks, never fails."""

    def get(self, timeout_s: float) -> T | None:
        """Take the oldest item, waiting *timeout_s* seconds at most; None if none came. Zero does not wait."""


class Clock(Protocol):
    """Time and waiting for one process."""

    def now(self) -> datetime:
        """The node's wall clock, UTC. For people to read; never compared with another node's."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back. For every duration that is measured."""

    def sleep(self, delay_s: float) -> None:
        """Wait *delay_s* seconds; zero or less returns at once."""

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> Thread:
        """Start *run* in a daemon thread called *name*.

        Args:
            run: What to do.
            name: For people.
            yields: Others on this machine, the workload above all, come first; so do threads that it starts itself.
        """

    def mailbox(self) -> Mailbox[T]:
        """Make a new, empty mailbox."""

    def lock(self) -> AbstractContextManager[object]:
        """Make a new, free mutual-exclusion lock; not re-entrant."""
