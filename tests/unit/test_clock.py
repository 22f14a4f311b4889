"""Virtual time advances only while every known thread waits. The rules for every clock are in tests/contract."""

import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from adapters.local.clock import NICE, SystemClock
from adapters.memory.clock import ManualClock
from lifecycle.ports.clock import Mailbox


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def sleeper(clock: ManualClock, log: list[tuple[float, str]], name: str, *delays_s: float) -> Callable[[], None]:
    """Return a thread function that sleeps for each of *delays_s* and records when it woke."""

    def run() -> None:
        for delay_s in delays_s:
            clock.sleep(delay_s)
            log.append((clock.monotonic(), name))

    return run


# ---- real ----


def test_a_signal_handler_may_put() -> None:
    """A signal handler may put while the thread that it interrupts waits in `get`."""
    box: Mailbox[int] = SystemClock().mailbox()
    before = signal.signal(signal.SIGUSR1, lambda number, _: box.put(number))
    try:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert box.get(60) == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


# ---- virtual ----


def test_sleeping_advances_both_clocks(clock: ManualClock) -> None:
    """Both clocks advance by exactly the time asked for."""
    began = time.monotonic()
    clock.sleep(86_400)
    clock.advance(0.5)
    clock.sleep(0)
    assert clock.monotonic() == 86_400.5
    assert clock.now() - ManualClock().now() == timedelta(seconds=86_400.5)
    assert time.monotonic() - began < 3600


def test_a_virtual_clock_starts_at_the_given_time() -> None:
    """A virtual clock starts at the given time, so every date in a test is known."""
    start = datetime(2001, 2, 3, tzinfo=UTC)
    assert ManualClock(start).now() == start


def test_an_empty_mailbox_costs_the_whole_timeout(clock: ManualClock) -> None:
    """An empty mailbox costs the whole time-out, and one with an item nothing."""
    box: Mailbox[int] = clock.mailbox()
    assert box.get(7) is None
    assert clock.monotonic() == 7
    box.put(1)
    assert box.get(7) == 1
    assert clock.monotonic() == 7


def test_time_stands_still_while_a_known_thread_is_busy(clock: ManualClock) -> None:
    """Time stands still while a known thread is busy, however long the others wait."""
    log: list[tuple[float, str]] = []
    thread = clock.start_thread(sleeper(clock, log, "a", 10), name="a")
    while not clock._waiters:
        time.sleep(0)
    assert (clock.monotonic(), log) == (0, [])
    assert thread.join(10) is True
    assert log == [(10, "a")]


def test_threads_wake_in_the_order_of_their_deadlines(clock: ManualClock) -> None:
    """Threads wake in the order of their deadlines, and each finishes before time advances."""
    log: list[tuple[float, str]] = []
    for name, delays in (("a", (3, 3, 3)), ("b", (2, 3, 2)), ("c", (10,))):
        clock.start_thread(sleeper(clock, log, name, *delays), name=name)
    clock.advance(8)
    assert log == [(2, "b"), (3, "a"), (5, "b"), (6, "a"), (7, "b")]
    clock.advance(4)
    assert log[5:] == [(9, "a"), (10, "c")]
    assert clock.monotonic() == 12


def test_a_put_wakes_the_waiter_at_once(clock: ManualClock) -> None:
    """The waiter wakes at the put, not at its deadline."""
    box: Mailbox[str] = clock.mailbox()

    def put_later() -> None:
        clock.sleep(3)
        box.put("x")

    clock.start_thread(put_later, name="putter")
    assert box.get(10) == "x"
    assert clock.monotonic() == 3


def test_an_item_put_after_a_timeout_is_not_lost(clock: ManualClock) -> None:
    """An item put after a time-out goes to the next caller."""
    box: Mailbox[str] = clock.mailbox()
    got: list[str | None] = []
    thread = clock.start_thread(lambda: got.append(box.get(1)), name="impatient")
    clock.advance(2)
    box.put("x")
    assert (thread.join(1), got, box.get(0)) == (True, [None], "x")


def test_a_join_that_times_out_takes_exactly_its_timeout(clock: ManualClock) -> None:
    """A join that times out takes exactly its time-out, and the thread goes on."""
    thread = clock.start_thread(lambda: clock.sleep(10), name="long")
    assert thread.join(4) is False
    assert clock.monotonic() == 4
    assert thread.join(100) is True
    assert clock.monotonic() == 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failed_thread_does_not_stop_time(clock: ManualClock) -> None:
    """Time does not wait for a thread that ended with an exception."""

    def fail() -> None:
        clock.sleep(1)
        raise ValueError("on purpose")

    thread = clock.start_thread(fail, name="failing")
    clock.sleep(5)
    assert thread.join(1) is True
    assert clock.monotonic() == 5


def test_a_thread_that_waits_for_a_lock_counts_as_waiting(clock: ManualClock) -> None:
    """A thread that waits for a lock counts as waiting; otherwise time would stand still while the holder sleeps."""
    lock = clock.lock()
    stored: Mailbox[bool] = clock.mailbox()

    def hold() -> None:
        with lock:
            stored.put(True)
            clock.sleep(5)

    clock.start_thread(hold, name="holder")
    assert stored.get(math.inf) is True
    with lock:
        assert clock.monotonic() == 5


def test_runs_are_deterministic() -> None:
    """The scheduling of threads does not matter: their deadlines differ, and so fix the order."""

    def run() -> list[tuple[float, str]]:
        clock, log = ManualClock(), list[tuple[float, str]]()
        for number in range(5):
            delays = [(number + 1) * 1.01 + step / 7 for step in range(10)]
            clock.start_thread(sleeper(clock, log, f"t{number}", *delays), name=f"t{number}")
        clock.advance(1000)
        return log

    first = run()
    assert len(first) == 50
    assert all(run() == first for _ in range(10))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_a_yielding_thread_has_a_lower_priority() -> None:
    """A thread that yields has a lower priority, and so have the threads that it starts."""
    seen: queue.SimpleQueue[int] = queue.SimpleQueue()
    clock, before = SystemClock(), os.getpriority(os.PRIO_PROCESS, 0)

    def look() -> None:
        seen.put(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def both() -> None:
        look()
        clock.start_thread(look, name="child").join(10)

    assert clock.start_thread(both, name="parent", yields=True).join(10)
    assert [seen.get(timeout=1), seen.get(timeout=1)] == [NICE, NICE]
    assert clock.start_thread(look, name="other").join(10)
    assert seen.get(timeout=1) == before < NICE
