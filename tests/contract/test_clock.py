"""The contract of `lifecycle.ports.clock.Clock`, on real time, on virtual time, and on the simulation's time."""

import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from enum import Enum, auto
from types import FrameType
from typing import Any, Final

import pytest
from simulation.world import Process, World, WorldClock
from support.capabilities import declaring

from adapters.local.clock import SystemClock
from adapters.memory.clock import ManualClock
from lifecycle.ports.clock import Clock, Mailbox

Body = Callable[[Clock], None]
Adapter = Callable[[Body], None]
"""Runs the body of a test, as one thread of a process that has the clock under test."""


class Capability(Enum):
    """Optional properties of a clock."""

    OS_THREADS = auto()
    """Its threads are those of Python, which carry names and do not keep a process alive."""


ADAPTERS: Final = {"system": {Capability.OS_THREADS}, "manual": {Capability.OS_THREADS}, "simulated": set[Capability]()}

PATIENCE_S: Final = 60.0
"""Longest wait for something that a correct clock brings about at once."""


def without_time_outs(body: Body) -> Body:
    """Make *body* fail if one of its waits ended only because PATIENCE_S was over, which costs virtual time nothing."""

    def run(clock: Clock) -> None:
        began = clock.monotonic()
        body(clock)
        assert clock.monotonic() - began < PATIENCE_S

    return run


def run_in_simulation(body: Body) -> None:
    """Run *body* as a thread of a simulated process."""
    world = World(seed=1)
    process = Process("node")
    task = world.spawn(process, lambda: body(WorldClock(world, process)), name="main")
    try:
        world.run(until=3600, enough=lambda: task.ended)
        assert task.ended, "every thread of the simulated process waits for ever"
    finally:
        world.end()


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each clock in turn."""
    match request.param:
        case "system":
            return lambda body: without_time_outs(body)(SystemClock())
        case "manual":
            return lambda body: without_time_outs(body)(ManualClock())
        case _:
            return lambda body: run_in_simulation(without_time_outs(body))


# ---- time ----


def test_now_is_in_utc(adapter: Adapter) -> None:
    """The wall clock is timezone-aware, and its zone is UTC."""

    def body(clock: Clock) -> None:
        assert clock.now().utcoffset() == timedelta(0)

    adapter(body)


def test_a_sleep_lasts_as_long_as_asked_or_longer(adapter: Adapter) -> None:
    """Monotonic time after `sleep(n)` is at least n seconds later than before it."""

    def body(clock: Clock) -> None:
        began = clock.monotonic()
        clock.sleep(0.05)
        assert clock.monotonic() - began >= 0.05

    adapter(body)


def test_monotonic_time_never_goes_back(adapter: Adapter) -> None:
    """A later reading, in whichever thread it is taken, is never below an earlier one."""

    def body(clock: Clock) -> None:
        box: Mailbox[float] = clock.mailbox()
        readings = [clock.monotonic()]
        for number in range(20):
            clock.start_thread(lambda: box.put(clock.monotonic()), name=f"reader-{number}")
            reading = box.get(PATIENCE_S)
            assert reading is not None
            readings += [reading, clock.monotonic()]
        assert readings == sorted(readings)

    adapter(body)


@pytest.mark.parametrize("delay_s", [0.0, -1.0])
def test_a_sleep_of_zero_or_less_returns(adapter: Adapter, delay_s: float) -> None:
    """A sleep of zero or less returns, so that a past deadline needs no check."""
    returned: list[bool] = []

    def body(clock: Clock) -> None:
        clock.sleep(delay_s)
        returned.append(True)

    adapter(body)
    assert returned


# ---- mailboxes ----


def test_a_mailbox_is_first_in_first_out(adapter: Adapter) -> None:
    """Items come out in the order in which they were put, each once."""

    def body(clock: Clock) -> None:
        box: Mailbox[int] = clock.mailbox()
        for number in range(5):
            box.put(number)
        assert [box.get(0) for _ in range(6)] == [0, 1, 2, 3, 4, None]

    adapter(body)


def test_a_mailbox_has_no_limit(adapter: Adapter) -> None:
    """`put` accepts any number of items that are not taken."""

    def body(clock: Clock) -> None:
        box: Mailbox[int] = clock.mailbox()
        for number in range(10_000):
            box.put(number)
        assert [box.get(0) for _ in range(10_000)] == list(range(10_000))

    adapter(body)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 0.01])
def test_an_empty_mailbox_gives_none(adapter: Adapter, timeout_s: float) -> None:
    """A wait that ends without an item returns None, and a wait of zero or less does not block."""

    def body(clock: Clock) -> None:
        box: Mailbox[int] = clock.mailbox()
        assert box.get(timeout_s) is None

    adapter(body)


def test_an_item_ends_the_wait_of_another_thread(adapter: Adapter) -> None:
    """A thread that waits in `get` receives the item that another thread puts."""

    def body(clock: Clock) -> None:
        asked: Mailbox[str] = clock.mailbox()
        answered: Mailbox[str] = clock.mailbox()

        def answer() -> None:
            question = asked.get(PATIENCE_S)
            answered.put(f"{question}!")

        thread = clock.start_thread(answer, name="answerer")
        asked.put("x")
        assert answered.get(PATIENCE_S) == "x!"
        assert thread.join(PATIENCE_S) is True

    adapter(body)


def test_every_item_goes_to_one_of_the_threads_that_wait(adapter: Adapter) -> None:
    """With several threads in `get`, no item is delivered twice and none is lost."""

    def body(clock: Clock) -> None:
        work: Mailbox[int] = clock.mailbox()
        done: Mailbox[int] = clock.mailbox()

        def take() -> None:
            for _ in range(5):
                item = work.get(PATIENCE_S)
                assert item is not None
                done.put(item)

        threads = [clock.start_thread(take, name=f"taker-{number}") for number in range(4)]
        for number in range(20):
            work.put(number)
        assert [thread.join(PATIENCE_S) for thread in threads] == [True] * 4
        got = [done.get(0) for _ in range(20)]
        assert sorted(item for item in got if item is not None) == list(range(20))

    adapter(body)


def test_mailboxes_are_separate(adapter: Adapter) -> None:
    """Each call of `mailbox` makes a new, empty one."""

    def body(clock: Clock) -> None:
        one: Mailbox[int] = clock.mailbox()
        other: Mailbox[int] = clock.mailbox()
        one.put(1)
        assert (other.get(0), one.get(0)) == (None, 1)

    adapter(body)


@pytest.mark.usefixtures("_untraced")
def test_a_signal_handler_may_put_at_any_moment(adapter: Adapter) -> None:
    """A `put` that interrupts the same thread anywhere in `put` or `get` neither blocks nor loses an item.

    A trace function stands in for the signal handler: it runs in the interrupted thread, between two lines.
    """

    def body(clock: Clock) -> None:
        line = 0
        while interrupted_at(line, clock):
            line += 1
        assert line > 4, "no line of the adapter was interrupted"

    adapter(body)


def interrupted_at(line: int, clock: Clock) -> bool:
    """Put an item while another is put and taken, before the *line*th line of that; False if there is no such line."""
    box: Mailbox[str] = clock.mailbox()
    here = sys._getframe().f_code.co_filename
    lines_left = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines_left
        if event == "line" and frame.f_code.co_filename != here:
            lines_left -= 1
            if lines_left == -1:
                box.put("from the handler")
        return trace

    sys.settrace(trace)
    try:
        box.put("first")
        got = [box.get(0.001), box.get(0.001)]
    finally:
        sys.settrace(None)
    if lines_left >= 0:
        return False
    got += [box.get(0), box.get(0)]
    assert sorted(item for item in got if item) == ["first", "from the handler"]
    return True


# ---- threads ----


def test_join_tells_if_a_thread_has_ended(adapter: Adapter) -> None:
    """`join` returns False while the thread runs and does not end it, and returns True after its end, every time."""

    def body(clock: Clock) -> None:
        box: Mailbox[str] = clock.mailbox()
        ended: list[str | None] = []
        thread = clock.start_thread(lambda: ended.append(box.get(PATIENCE_S)), name="waiter")
        assert thread.join(0) is False
        assert thread.join(0.01) is False
        box.put("end")
        assert thread.join(PATIENCE_S) is True
        assert thread.join(0) is True
        assert ended == ["end"]

    adapter(body)


@pytest.mark.parametrize("yields", [False, True])
def test_a_thread_runs_to_its_end(adapter: Adapter, yields: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A started thread does all its work, also one that yields to the rest of the machine."""

    def body(clock: Clock) -> None:
        done: list[int] = []
        thread = clock.start_thread(lambda: done.extend(range(1000)), name="counter", yields=yields)
        assert thread.join(PATIENCE_S) is True
        assert done == list(range(1000))

    adapter(body)


def test_several_threads_can_wait_for_one(adapter: Adapter) -> None:
    """Each `join` of a thread returns when it ends."""

    def body(clock: Clock) -> None:
        start: Mailbox[str] = clock.mailbox()
        joined: Mailbox[bool] = clock.mailbox()
        started: list[str | None] = []
        thread = clock.start_thread(lambda: started.append(start.get(PATIENCE_S)), name="worker")
        for number in range(3):
            clock.start_thread(lambda: joined.put(thread.join(PATIENCE_S)), name=f"joiner-{number}")
        start.put("go")
        assert [joined.get(PATIENCE_S) for _ in range(3)] == [True] * 3

    adapter(body)


@declaring(ADAPTERS, Capability.OS_THREADS)
def test_a_thread_is_a_daemon_with_its_name(adapter: Adapter) -> None:
    """A thread has the given name, and never keeps a process alive."""

    def body(clock: Clock) -> None:
        box: Mailbox[tuple[str, bool]] = clock.mailbox()

        def describe() -> None:
            thread = threading.current_thread()
            box.put((thread.name, thread.daemon))

        clock.start_thread(describe, name="heart")
        assert box.get(PATIENCE_S) == ("heart", True)

    adapter(body)


# ---- locks ----


def test_a_lock_admits_one_thread_at_a_time(adapter: Adapter) -> None:
    """A second thread enters only after the first has left."""

    def body(clock: Clock) -> None:
        lock, order = clock.lock(), list[str]()
        asking: Mailbox[bool] = clock.mailbox()

        def contend() -> None:
            asking.put(True)
            with lock:
                order.append("second")

        with lock:
            thread = clock.start_thread(contend, name="contender")
            assert asking.get(PATIENCE_S) is True
            assert thread.join(0.05) is False
            order.append("first")
        assert thread.join(PATIENCE_S) is True
        assert order == ["first", "second"]

    adapter(body)


def test_no_update_under_a_lock_is_lost(adapter: Adapter) -> None:
    """Threads that read, wait and write under one lock see each other's writes."""

    def body(clock: Clock) -> None:
        lock, counter = clock.lock(), [0]

        def count() -> None:
            for _ in range(20):
                with lock:
                    seen = counter[0]
                    clock.sleep(0.0001)
                    counter[0] = seen + 1

        threads = [clock.start_thread(count, name=f"counter-{number}") for number in range(3)]
        assert [thread.join(PATIENCE_S) for thread in threads] == [True] * 3
        assert counter == [60]

    adapter(body)


def test_an_error_frees_the_lock(adapter: Adapter) -> None:
    """A block that raises leaves the lock free for the next thread."""

    def body(clock: Clock) -> None:
        lock, entered = clock.lock(), list[bool]()

        def enter() -> None:
            with lock:
                entered.append(True)

        with pytest.raises(ValueError, match="on purpose"), lock:
            raise ValueError("on purpose")
        assert clock.start_thread(enter, name="next").join(PATIENCE_S) is True
        assert entered == [True]

    adapter(body)


def test_locks_are_separate(adapter: Adapter) -> None:
    """Each call of `lock` makes a new, free one."""

    def body(clock: Clock) -> None:
        entered = []
        with clock.lock(), clock.lock():
            entered.append(True)
        assert entered == [True]

    adapter(body)
