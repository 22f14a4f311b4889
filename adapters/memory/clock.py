"""ManualClock: virtual time for tests. Threads are real, but time advances only while all of them wait.

It then advances to the earliest deadline, and the thread that waits for it goes on. A test with heartbeats, uploads and
time-outs of hours takes milliseconds, and does not depend on the speed of the machine. The known threads are the one
that created the clock and those started through it.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from attrs import define, field

from lifecycle.ports.clock import Clock, Mailbox, Thread

T = TypeVar("T")

START: Final = datetime(2030, 1, 1, tzinfo=UTC)


@define(eq=False)
class _Waiter:
    """A thread that waits to be woken, until *deadline* at the latest."""

    deadline: float
    _asleep: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._asleep.acquire()

    def wait(self) -> None:
        """Block until `wake` is called."""
        self._asleep.acquire()

    def wake(self) -> None:
        """End the wait; called once. Unlike `threading.Event.set`, safe in a signal handler that interrupts `wait`."""
        self._asleep.release()


class _SignalSafeLock:
    """A lock that a signal handler may find held by the very thread that it interrupts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deferred: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._run_deferred()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._try_deferred()

    def run(self, act: Callable[[], None]) -> None:
        """Run *act* with the lock held: now if the lock is free, otherwise once its holder lets go. Never blocks."""
        self._deferred.append(act)
        self._try_deferred()

    def _try_deferred(self) -> None:
        # An act that was deferred between the holder's last look and its release is found by this second look.
        while self._deferred and self._lock.acquire(blocking=False):
            try:
                self._run_deferred()
            finally:
                self._lock.release()

    def _run_deferred(self) -> None:
        while self._deferred:
            self._deferred.popleft()()


class ManualClock:
    """Virtual time.

    Args:
        start: Initial value of `now`.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._lock = _SignalSafeLock()
        self._busy = 1  # known threads that do not wait: at first, the one that creates the clock
        self._waiters: list[_Waiter] = []

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._elapsed_s

    def advance(self, delay_s: float) -> None:
        """Let *delay_s* seconds pass; all other threads do their work meanwhile."""
        self.sleep(delay_s)

    def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        if delay_s > 0:
            with self._lock:
                waiter = self._begin_wait(delay_s)
            waiter.wait()

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> Thread:  # noqa: ARG002 - priorities do not matter in virtual time
        """See `Clock.start_thread`."""
        return _ManualThread(self, run, name)

    def mailbox(self) -> Mailbox[Any]:
        """See `Clock.mailbox`."""
        return _ManualMailbox(self)

    def lock(self) -> AbstractContextManager[object]:
        """See `Clock.lock`."""
        return MailboxLock(_ManualMailbox(self))

    # The callers of the following methods hold the lock.

    def _begin_wait(self, timeout_s: float) -> _Waiter:
        waiter = _Waiter(self._elapsed_s + timeout_s)
        self._waiters.append(waiter)
        self._idle()
        return waiter

    def _wake(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._busy += 1
            waiter.wake()

    def _idle(self) -> None:
        """Count one busy thread less; if it was the last, advance the time."""
        self._busy -= 1
        if self._busy == 0 and self._waiters:
            first = min(self._waiters, key=lambda waiter: waiter.deadline)
            if first.deadline < math.inf:
                self._elapsed_s = max(self._elapsed_s, first.deadline)
                self._wake(first)


class _ManualMailbox(Generic[T]):
    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._items: deque[T] = deque()
        self._waiting: deque[_Waiter] = deque()

    def put(self, item: T) -> None:
        self._clock._lock.run(lambda: self._put(item))  # noqa: SLF001 - the clock and its parts are one unit

    def _put(self, item: T) -> None:
        self._items.append(item)
        if self._waiting:
            self._clock._wake(self._waiting.popleft())  # noqa: SLF001 - the same

    def get(self, timeout_s: float) -> T | None:
        with self._clock._lock:  # noqa: SLF001 - the same
            if self._items:
                return self._items.popleft()
            if timeout_s <= 0:
                return None
            waiter = self._clock._begin_wait(timeout_s)  # noqa: SLF001 - the same
            self._waiting.append(waiter)
        waiter.wait()
        with self._clock._lock:  # noqa: SLF001 - the same
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            return self._items.popleft() if self._items else None


class MailboxLock:
    """A lock made of a mailbox with one token, so that the clock knows that a thread waits for the lock.

    Args:
        tokens: An empty mailbox of the clock.
    """

    def __init__(self, tokens: Mailbox[bool]) -> None:
        self._tokens = tokens
        self._tokens.put(True)

    def __enter__(self) -> None:
        while self._tokens.get(math.inf) is None:
            pass

    def __exit__(self, *_: object) -> None:
        self._tokens.put(True)


class _ManualThread:
    def __init__(self, clock: ManualClock, run: Callable[[], None], name: str) -> None:
        self._clock = clock
        self._ended = False
        self._joining: list[_Waiter] = []
        with clock._lock:  # noqa: SLF001 - the same
            clock._busy += 1  # noqa: SLF001 - the same
        self._thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            with self._clock._lock:  # noqa: SLF001 - the same
                self._ended = True
                for waiter in self._joining:
                    self._clock._wake(waiter)  # noqa: SLF001 - the same
                self._clock._idle()  # noqa: SLF001 - the same

    def join(self, timeout_s: float) -> bool:
        with self._clock._lock:  # noqa: SLF001 - the same
            waiter = None
            if not self._ended and timeout_s > 0:
                waiter = self._clock._begin_wait(timeout_s)  # noqa: SLF001 - the same
                self._joining.append(waiter)
        if waiter:
            waiter.wait()
        if self._ended:
            self._thread.join()  # it no longer waits; an exception is reported before we go on
        return self._ended


if TYPE_CHECKING:

    def _conforms(clock: ManualClock) -> Clock:
        return clock
