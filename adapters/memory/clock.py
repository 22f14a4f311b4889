"""ManualClock: virtual time for tests. Threads are real; time moves only when every one of them waits.

Then it moves to the earliest moment that one of them waits for, and that one goes on. So a test with heartbeats,
uploads and time-outs of hours takes milliseconds, and nothing in it depends on how fast the machine is. Known threads
are the one that made the clock and those started through it.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from attrs import define, field

from lifecycle.ports.clock import Clock, Mailbox, Thread

T = TypeVar("T")

START: Final = datetime(2030, 1, 1, tzinfo=UTC)


@define(eq=False)
class _Waiter:
    """A thread that waits until it is woken, at *deadline* at the latest."""

    deadline: float
    awake: threading.Event = field(factory=threading.Event)


class ManualClock:
    """Virtual time.

    Args:
        start: What `now` says at first.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._guard = threading.Lock()
        self._busy = 1  # known threads that do not wait: at first the one that makes the clock
        self._waiters: list[_Waiter] = []

    def now(self) -> datetime:
        """See `lifecycle.ports.clock.Clock`."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """See `lifecycle.ports.clock.Clock`."""
        return self._elapsed_s

    def advance(self, delay_s: float) -> None:
        """Let *delay_s* seconds pass; every thread does what it has to do meanwhile."""
        self.sleep(delay_s)

    def sleep(self, delay_s: float) -> None:
        """See `lifecycle.ports.clock.Clock`."""
        if delay_s > 0:
            with self._guard:
                waiter = self._begin_wait(delay_s)
            waiter.awake.wait()

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> Thread:  # noqa: ARG002 - nothing takes time here
        """See `lifecycle.ports.clock.Clock`."""
        return _ManualThread(self, run, name)

    def mailbox(self) -> Mailbox[T]:
        """See `lifecycle.ports.clock.Clock`."""
        return _ManualMailbox(self)

    def lock(self) -> AbstractContextManager[object]:
        """See `lifecycle.ports.clock.Clock`."""
        return MailboxLock(_ManualMailbox(self))

    # All of these are called with the guard held.

    def _begin_wait(self, timeout_s: float) -> _Waiter:
        waiter = _Waiter(self._elapsed_s + timeout_s)
        self._waiters.append(waiter)
        self._rest()
        return waiter

    def _wake(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._busy += 1
            waiter.awake.set()

    def _rest(self) -> None:
        """One known thread less is busy; if it was the last, time moves."""
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
        with self._clock._guard:  # noqa: SLF001 - the clock and its parts are one thing
            self._items.append(item)
            if self._waiting:
                self._clock._wake(self._waiting.popleft())  # noqa: SLF001 - the same

    def get(self, timeout_s: float) -> T | None:
        with self._clock._guard:  # noqa: SLF001 - the same
            if self._items:
                return self._items.popleft()
            if timeout_s <= 0:
                return None
            waiter = self._clock._begin_wait(timeout_s)  # noqa: SLF001 - the same
            self._waiting.append(waiter)
        waiter.awake.wait()
        with self._clock._guard:  # noqa: SLF001 - the same
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            return self._items.popleft() if self._items else None


class MailboxLock:
    """A lock made of a mailbox with one token in it, so that a thread that waits for the lock is known to wait.

    Args:
        tokens: An empty mailbox of the clock's.
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
        with clock._guard:  # noqa: SLF001 - the same
            clock._busy += 1  # noqa: SLF001 - the same
        self._thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            with self._clock._guard:  # noqa: SLF001 - the same
                self._ended = True
                for waiter in self._joining:
                    self._clock._wake(waiter)  # noqa: SLF001 - the same
                self._clock._rest()  # noqa: SLF001 - the same

    def join(self, timeout_s: float) -> bool:
        with self._clock._guard:  # noqa: SLF001 - the same
            waiter = None
            if not self._ended and timeout_s > 0:
                waiter = self._clock._begin_wait(timeout_s)  # noqa: SLF001 - the same
                self._joining.append(waiter)
        if waiter:
            waiter.awake.wait()
        if self._ended:
            self._thread.join()  # it waits for nobody any more; what it raised is reported before we go on
        return self._ended


if TYPE_CHECKING:

    def _conforms(clock: ManualClock) -> Clock:
        return clock
