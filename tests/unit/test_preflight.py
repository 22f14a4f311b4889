"""Preflight check: stores without working conditional writes are refused."""

from collections.abc import Callable

import pytest
from attrs import evolve

from adapters.memory.clock import ManualClock
from adapters.memory.store import MemoryStore
from lifecycle.errors import ConfigError, PermanentError, RetryableError, VersionConflictError
from lifecycle.ports.store import ABSENT, Absent, Body, StoredObject, Version
from lifecycle.record.preflight import check_conditional_writes


class FaultyStore(MemoryStore):
    """A store whose conditional puts go through *twist*, which gets the correct put and the expected version."""

    def __init__(
        self,
        clock: ManualClock,
        twist: Callable[["FaultyStore", Callable[[Version | Absent | None], Version], Version | Absent], Version],
    ) -> None:
        super().__init__(clock)
        self.twist = twist
        self.puts = 0

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        assert expected is not None
        self.puts += 1
        return self.twist(self, lambda condition: MemoryStore.put(self, key, body, expected=condition), expected)


def check(store: MemoryStore, clock: ManualClock) -> None:
    """Run the preflight check."""
    check_conditional_writes(store, prefix="p/.holdfast/canary/", token="t", clock=clock)


def test_a_correct_store_passes_and_is_left_clean() -> None:
    """A store that honours conditions is accepted without a pause, and no key of the check remains."""
    clock = ManualClock()
    store = MemoryStore(clock)
    store.put("p/mine", b"")
    check(store, clock)
    assert [listed.key for listed in store.list("")] == ["p/mine"]
    assert clock.monotonic() == 0


def test_a_write_limit_per_key_is_waited_for() -> None:
    """R2's "too many requests" proves nothing: the check waits and then passes."""
    clock = ManualClock()
    store = MemoryStore(clock, write_gap_s=1.0)
    check(store, clock)
    assert 1 < clock.monotonic() < 10
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    ("ignored", "why"),
    [
        (lambda expected: True, "If-None-Match"),
        (lambda expected: expected is ABSENT, "If-None-Match"),
        (lambda expected: expected is not ABSENT, "If-Match"),
    ],
)
def test_a_store_that_ignores_conditions_is_refused(ignored: Callable[[object], bool], why: str) -> None:
    """Ignoring either condition is refused, and the keys are still removed."""
    clock = ManualClock()
    store = FaultyStore(clock, lambda _, put, expected: put(None if ignored(expected) else expected))
    with pytest.raises(ConfigError, match=f"ignores conditional writes .*{why}"):
        check(store, clock)
    assert list(store.list("")) == []


def test_a_store_that_never_matches_its_etags_is_refused() -> None:
    """A store that never matches its own versions is refused: every write would conflict."""

    def never_matches(_: FaultyStore, put: Callable[..., Version], expected: Version | Absent) -> Version:
        if expected is not ABSENT:
            raise VersionConflictError("no")
        return put(expected)

    clock = ManualClock()
    with pytest.raises(ConfigError, match="without quotes"):
        check(FaultyStore(clock, never_matches), clock)


def test_a_store_that_refuses_conditions_is_refused() -> None:
    """A store that answers "not implemented" to conditions is refused."""

    def refuse(*_: object) -> Version:
        raise PermanentError("NotImplemented")

    clock = ManualClock()
    with pytest.raises(ConfigError, match=r"does not take conditional writes.*NotImplemented"):
        check(FaultyStore(clock, refuse), clock)


def test_a_store_that_rejects_new_keys_is_refused() -> None:
    """A store that rejects the creation of a new key is refused."""

    def conflict(*_: object) -> Version:
        raise VersionConflictError("no")

    clock = ManualClock()
    with pytest.raises(ConfigError, match="refuses to make the new key"):
        check(FaultyStore(clock, conflict), clock)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_single_unexpected_conflict_proves_nothing(number: int) -> None:
    """A store that once refuses a condition that holds passes, whichever put it is, and is left clean."""

    def refuse_once(store: FaultyStore, put: Callable[..., Version], expected: Version | Absent) -> Version:
        if store.puts == number:
            raise VersionConflictError("412, on purpose")
        return put(expected)

    clock = ManualClock()
    store = FaultyStore(clock, refuse_once)
    check(store, clock)
    assert list(store.list("")) == []


def test_keys_that_an_earlier_check_left_are_removed() -> None:
    """A check also removes keys of checks that were killed; those of a check that may still run remain."""
    clock = ManualClock()
    store = MemoryStore(clock)
    store.put("p/.holdfast/canary/killed-0", b"")
    clock.sleep(3700)
    store.put("p/.holdfast/canary/running-0", b"")
    check(store, clock)
    assert [listed.key for listed in store.list("")] == ["p/.holdfast/canary/running-0"]


def test_a_store_with_two_names_for_one_version_is_refused() -> None:
    """The version that is read must equal the one that the write returned, or the next write would conflict."""

    class Weak(MemoryStore):
        def get(self, key: str) -> StoredObject | None:
            found = super().get(key)
            return evolve(found, version=f"W/{found.version}") if found else None

    clock = ManualClock()
    with pytest.raises(ConfigError, match="reads back another version"):
        check(Weak(clock), clock)


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5])
def test_a_lost_answer_proves_nothing(lost: int) -> None:
    """A correct store passes whichever put loses its answer."""

    def lose(store: FaultyStore, put: Callable[..., Version], expected: Version | Absent) -> Version:
        number = store.puts
        version = put(expected)
        if number == lost:
            raise RetryableError("the answer was lost")
        return version

    clock = ManualClock()
    store = FaultyStore(clock, lose)
    check(store, clock)
    assert list(store.list("")) == []


def test_an_unreachable_store_gets_no_verdict() -> None:
    """If the store cannot be reached, the check gives up after a few tries without a verdict."""

    def away(*_: object) -> Version:
        raise RetryableError("away")

    clock = ManualClock()
    store = FaultyStore(clock, away)
    with pytest.raises(RetryableError, match="away"):
        check(store, clock)
    assert 1 < store.puts < 10


def test_a_failed_cleanup_is_not_a_failed_check(caplog: pytest.LogCaptureFixture) -> None:
    """A key that could not be removed is named in the log, and the check still passes."""

    class Sticky(MemoryStore):
        def delete(self, keys: object) -> None:
            raise RetryableError("not now")

    clock = ManualClock()
    with caplog.at_level("WARNING"):
        check(Sticky(clock), clock)
    assert "p/.holdfast/canary/t-0" in caplog.text
