"""The thread that repeats one action: its intervals, its end, and its errors."""

import pytest

from adapters.memory.clock import ManualClock
from lifecycle.periodic_thread import PeriodicThread


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def fail_on_error(error: Exception) -> None:
    raise AssertionError("no error was expected") from error


def test_each_round_returns_the_next_interval(clock: ManualClock) -> None:
    """The interval may change from round to round, and a round that returns None is the last."""
    began, rounds, pauses = clock.monotonic(), list[float](), iter([5.0, 20.0, None])

    def act() -> float | None:
        rounds.append(clock.monotonic() - began)
        return next(pauses)

    thread = PeriodicThread(clock, name="test", action=act, first_s=2.0, on_error=fail_on_error)
    clock.sleep(1000)
    assert rounds == [2.0, 7.0, 27.0]
    assert thread.stop(timeout_s=1.0)


def test_a_stopped_thread_runs_on_stopped_once(clock: ManualClock) -> None:
    """`on_stopped` runs in the thread, once, however often the thread is stopped, and no round follows it."""
    calls: list[str] = []

    def act() -> float:
        calls.append("round")
        return 10.0

    thread = PeriodicThread(
        clock, name="test", action=act, first_s=10.0, on_stopped=lambda: calls.append("last"), on_error=fail_on_error
    )
    clock.sleep(25)
    assert thread.stop(timeout_s=1.0)
    thread.request_stop()
    clock.sleep(100)
    assert calls == ["round", "round", "last"]


@pytest.mark.parametrize("where", ["action", "on_stopped"])
def test_an_error_is_reported_and_ends_the_thread(clock: ManualClock, where: str) -> None:
    """An error is reported, and the thread ends."""
    errors: list[str] = []

    def fail() -> None:
        raise ValueError(where)

    def act() -> float:
        if where == "action":
            fail()
        return 10.0

    thread = PeriodicThread(
        clock,
        name="test",
        action=act,
        first_s=1.0,
        on_stopped=fail,
        on_error=lambda error: errors.append(str(error)),
    )
    clock.sleep(100)
    assert thread.stop(timeout_s=1.0)
    assert errors == [where]


def test_a_stop_does_not_wait_for_a_round_that_hangs(clock: ManualClock) -> None:
    """`stop` returns False if the thread has not ended in time; the thread ends after that round."""

    def hang() -> float:
        clock.sleep(100)
        return 1.0

    thread = PeriodicThread(clock, name="test", action=hang, first_s=1.0, on_error=fail_on_error)
    clock.sleep(2)
    assert not thread.stop(timeout_s=10.0)
    assert thread.stop(timeout_s=100.0)
