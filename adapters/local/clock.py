"""SystemClock: the operating system's clocks and Python's threads."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from lifecycle.ports.clock import Clock, Mailbox, Thread

T = TypeVar("T")
NICE: Final = 10  # niceness of a thread that yields to the workload


class SystemMailbox(Generic[T]):
    """A mailbox whose `put` signal handlers may call, because `queue.SimpleQueue.put` is re-entrant.

    https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put
    """

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        """See `Mailbox.put`."""
        self._items.put(item)

    def get(self, timeout_s: float) -> T | None:
        """See `Mailbox.get`."""
        try:
            return self._items.get(timeout=timeout_s) if timeout_s > 0 else self._items.get_nowait()
        except queue.Empty:
            return None


class SystemThread:
    """A daemon thread, already started."""

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """See `Thread.join`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


def _run_nicely(run: Callable[[], None]) -> None:
    """Call *run* at a lower priority, if threads have their own, as on Linux."""
    with suppress(OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    run()


class SystemClock:
    """The clocks of the operating system, and real threads."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        if delay_s > 0:
            time.sleep(delay_s)

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> Thread:
        """See `Clock.start_thread`."""
        return SystemThread(partial(_run_nicely, run) if yields else run, name)

    def mailbox(self) -> Mailbox[Any]:
        """See `Clock.mailbox`."""
        return SystemMailbox()

    def lock(self) -> AbstractContextManager[object]:
        """See `Clock.lock`."""
        return threading.Lock()


if TYPE_CHECKING:

    def _conforms(clock: SystemClock) -> Clock:
        return clock
