"""MemoryStore is as strict as R2, and no stricter."""

from datetime import datetime, timedelta

import pytest

from adapters.memory.clock import ManualClock
from adapters.memory.store import MemoryStore
from lifecycle.errors import RetryableError
from lifecycle.ports.store import ABSENT


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_key_accepts_one_write_per_second(clock: ManualClock) -> None:
    """A second write within a second fails, as with R2's 429, and writes nothing; other keys are not affected."""
    store = MemoryStore(clock, write_gap_s=1.0)
    store.put("k", b"one")
    with pytest.raises(RetryableError):
        store.put("k", b"two")
    store.put("other", b"x")
    found = store.get("k")
    assert found is not None
    assert found.body == b"one"
    clock.advance(1)
    store.put("k", b"two", expected=found.version)


def test_without_a_gap_every_write_is_accepted() -> None:
    """Without a gap, the order of clock readings does not matter, nor does a clock that is set back."""

    class Backwards(ManualClock):
        moments = iter(ManualClock().now() - timedelta(seconds=number) for number in range(9))

        def now(self) -> datetime:
            return next(self.moments)

    store = MemoryStore(Backwards())
    store.put("k", b"one")
    store.put("k", b"two")
    found = store.get("k")
    assert found is not None
    assert found.body == b"two"


def test_equal_bytes_have_equal_versions(clock: ManualClock) -> None:
    """An ETag is a hash, so a version does not identify the writer: A, B, A passes for A."""
    store = MemoryStore(clock)
    first = store.put("k", b"a", expected=ABSENT)
    second = store.put("k", b"b", expected=first)
    assert store.put("k", b"a", expected=second) == first
    store.put("k", b"c", expected=first)


def test_ages_are_differences_of_whole_seconds(clock: ManualClock) -> None:
    """As with HTTP dates, an age may be wrong by up to a second."""
    store = MemoryStore(clock)
    clock.advance(0.9)
    store.put("k", b"x")
    clock.advance(0.2)
    found = store.get("k")
    assert found is not None
    assert found.age_s == 1.0
    assert [listed.age_s for listed in store.list("k")] == [1.0]
