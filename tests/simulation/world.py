"""The simulated world: virtual time, and greenlets that share one thread and one seed.

Exactly one greenlet runs at a time. One that waits (for time, a message, a lock or a thread) hands over to the
scheduler, which resumes the one that is due first; the seed breaks ties. So the seed alone decides the history.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from attrs import define
from greenlet import getcurrent, greenlet

from adapters.memory.clock import MailboxLock
from lifecycle.ports.clock import Clock

T = TypeVar("T")

START: Final = datetime(2030, 1, 1, tzinfo=UTC)


class Died(BaseException):
    """Death of the process: none of its code catches this, and none of its calls reaches a port any more."""


@define(eq=False)
class Process:
    """One process on one node.

    Attributes:
        name: The node's name.
        skew_s: Error of its wall clock, in seconds.
        is_dead: True if it no longer runs.
        asleep_until: It does not run before then (SIGSTOP, a frozen machine).
        wakes_at: When the last of its threads to be held up by that goes on, even if it is woken earlier.
    """

    name: str
    skew_s: float = 0.0
    is_dead: bool = False
    asleep_until: float = -math.inf
    wakes_at: float = -math.inf


@define(eq=False)
class Task:
    """A thread of a process."""

    process: Process
    name: str
    flow: greenlet
    ended: bool = False


@define(eq=False)
class Waiter:
    """One wait of a task, which ends when it is woken."""

    task: Task
    over: bool = False


class World:
    """Time, tasks and the log of events.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.time = 0.0
        self.history: list[tuple[float, str, str]] = []
        self._main = getcurrent()
        self._agenda: list[tuple[float, float, int, Waiter | Callable[[], None]]] = []
        self._count = 0
        self._tasks: list[Task] = []
        self._current: Task | None = None

    def tell(self, who: str, what: str) -> None:
        """Add an event to the history."""
        self.history.append((round(self.time, 3), who, what))

    @property
    def process(self) -> Process | None:
        """The process that is running; None between tasks."""
        return self._current.process if self._current else None

    @property
    def task(self) -> str:
        """The name of the thread that is running; empty between tasks."""
        return self._current.name if self._current else ""

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Call *act*, which must not wait, at *moment*."""
        self._push(moment, act)

    def spawn(self, process: Process, run: Callable[[], object], *, name: str) -> Task:
        """Start a thread of *process*."""

        def live() -> None:
            try:
                run()
            except Died:
                pass
            except Exception:
                if not process.is_dead:  # errors of a dying process are never observed
                    raise
            finally:
                task.ended = True

        task = Task(process, name, greenlet(live, parent=self._main))
        self._tasks.append(task)
        self._push(self.time, Waiter(task))
        return task

    def run(self, until: float, *, enough: Callable[[], bool] = lambda: False) -> None:
        """Run events up to time *until*, or until *enough* returns True."""
        while self._agenda and self._agenda[0][0] <= until and not enough():
            moment, _, _, item = heapq.heappop(self._agenda)
            self.time = max(self.time, moment)
            if isinstance(item, Waiter):
                self._go_on(item)
            else:
                item()
        if not enough():
            self.time = max(self.time, until)

    def wait(self, delay_s: float) -> Waiter:
        """Make the current task wait until it is woken or *delay_s* has passed."""
        waiter = self.begin_wait(delay_s)
        self.hand_over()
        return waiter

    def begin_wait(self, delay_s: float) -> Waiter:
        """Register a wait of the current task."""
        task = self._current
        if task is None:
            raise RuntimeError("only a task can wait")
        if task.process.is_dead:
            raise Died
        waiter = Waiter(task)
        if delay_s < math.inf:
            self._push(self.time + max(delay_s, 0.0), waiter)
        return waiter

    def hand_over(self) -> None:
        """Wait, after `begin_wait`."""
        task = self._current
        self._main.switch()
        if task is not None and task.process.is_dead:
            raise Died

    def wake(self, waiter: Waiter) -> None:
        """Resume a waiting task now."""
        self._push(self.time, waiter)

    def end(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.process.is_dead = True
        for task in self._tasks:
            self._current = task
            while not task.flow.dead and task.flow:
                task.flow.throw(Died)
        self._current = None

    def _push(self, moment: float, item: Waiter | Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (moment, self.rng.random(), self._count, item))

    def _go_on(self, waiter: Waiter) -> None:
        task = waiter.task
        if waiter.over or task.ended:
            return
        if task.process.asleep_until > self.time:
            task.process.wakes_at = max(task.process.wakes_at, task.process.asleep_until)
            self._push(task.process.asleep_until, waiter)
            return
        waiter.over = True
        self._current = task
        try:
            task.flow.switch()
        finally:
            self._current = None


class WorldClock:
    """The clock of one process, or the world's own.

    Args:
        world: The world.
        process: The process, for its clock's skew.
    """

    def __init__(self, world: World, process: Process | None = None) -> None:
        self._world = world
        self._process = process

    def now(self) -> datetime:
        """See `Clock`."""
        return START + timedelta(seconds=self._world.time + (self._process.skew_s if self._process else 0.0))

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._world.time

    def sleep(self, delay_s: float) -> None:
        """See `Clock`."""
        if delay_s > 0:
            self._world.wait(delay_s)

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> "WorldThread":
        """See `Clock`."""
        if self._process is None:
            raise RuntimeError("threads belong to processes")
        return WorldThread(self._world, self._process, run, name)

    def mailbox(self) -> "WorldMailbox[Any]":
        """See `Clock`."""
        return WorldMailbox(self._world)

    def lock(self) -> AbstractContextManager[object]:
        """See `Clock`."""
        return MailboxLock(WorldMailbox(self._world))


class WorldMailbox(Generic[T]):
    """See `lifecycle.ports.clock.Mailbox`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._items: deque[T] = deque()
        self._waiting: deque[Waiter] = deque()

    def put(self, item: T) -> None:
        """See `Mailbox`."""
        self._items.append(item)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.over:
                self._world.wake(waiter)
                break

    def get(self, timeout_s: float) -> T | None:
        """See `Mailbox`."""
        if not self._items and timeout_s > 0:
            waiter = self._world.begin_wait(timeout_s)
            self._waiting.append(waiter)
            self._world.hand_over()
        return self._items.popleft() if self._items else None


class WorldThread:
    """See `lifecycle.ports.clock.Thread`."""

    def __init__(self, world: World, process: Process, run: Callable[[], None], name: str) -> None:
        self._done: WorldMailbox[bool] = WorldMailbox(world)

        def to_the_end() -> None:
            try:
                run()
            finally:
                self._done.put(True)

        self._task = world.spawn(process, to_the_end, name=name)

    def join(self, timeout_s: float) -> bool:
        """See `Thread`."""
        if not self._task.ended and self._done.get(timeout_s):
            self._done.put(True)
            return True
        return self._task.ended


if TYPE_CHECKING:

    def _conforms(clock: WorldClock) -> Clock:
        return clock
