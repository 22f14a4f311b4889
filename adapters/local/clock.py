"""SystemClock: the operating system's time, and Python's threads."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from lifecycle.ports.clock import Clock, Mailbox, Thread

T = TypeVar("T")
NICE: Final = 10


class SystemMailbox(Generic[T]):
    """A mailbox whose `put` is re-entrant (CPython: `queue.SimpleQueue`), so that signal handlers may call it."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        """See `lifecycle.ports.clock.Mailbox`."""
        self._items.put(item)

    def get(self, timeout_s: float) -> T | None:
        """See `lifecycle.ports.clock.Mailbox`."""
        try:
            return self._items.get(timeout=timeout_s) if timeout_s > 0 else self._items.get_nowait()
        except queue.Empty:
            return None


class SystemThread:
    """A daemon thread, started."""

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """See `lifecycle.ports.clock.Thread`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


def _yielding(run: Callable[[], None]) -> None:
    """Run at a lower priority, where threads have one of their own: on Linux."""
    with suppress(OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    run()


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """See `lifecycle.ports.clock.Clock`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `lifecycle.ports.clock.Clock`."""
        return time.monotonic()

    def sleep(self, delay_s: float) -> None:
        """See `lifecycle.ports.clock.Clock`."""
        if delay_s > 0:
            time.sleep(delay_s)

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> Thread:
        """See `lifecycle.ports.clock.Clock`."""
        return SystemThread(partial(_yielding, run) if yields else run, name)

    def mailbox(self) -> Mailbox[T]:
        """See `lifecycle.ports.clock.Clock`."""
        return SystemMailbox()

    def lock(self) -> AbstractContextManager[object]:
        """See `lifecycle.ports.clock.Clock`."""
        return threading.Lock()


if TYPE_CHECKING:

    def _conforms(clock: SystemClock) -> Clock:
        return clock
