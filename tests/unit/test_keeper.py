"""The owner's hold on its record."""

import random
from typing import Any

import pytest
from attrs import evolve
from support.fault_injection import Meddling

from adapters.memory.clock import ManualClock
from adapters.memory.store import MemoryStore
from lifecycle.attempt.observers import NOBODY
from lifecycle.errors import RetryableError, UnknownOutcomeError
from lifecycle.job_record import JobRecord
from lifecycle.ports.store import ABSENT
from lifecycle.record.record_store import Held, Ledger
from lifecycle.record.session import RecordKeeper
from lifecycle.states import State

KEY = "records/a.json"


@pytest.mark.parametrize("ended", [State.COMPLETED, State.FAILED, State.CANCELLED, State.RELEASED])
def test_a_beat_does_not_open_again_what_ended_unnoticed(ended: State) -> None:
    """The end landed and its answer was lost; what was noted before it must not come after it with the next beat."""
    clock = ManualClock()
    memory = MemoryStore(clock)
    is_cut = False

    def lose(*_: Any, **__: Any) -> None:
        if is_cut:
            raise RetryableError("lost, on purpose")

    ledger = Ledger(Meddling(memory, after=lose), clock, random.Random(5))
    held = ledger.write(KEY, JobRecord("a", "w", state=State.RECEIVED, epoch=1), ABSENT)
    assert isinstance(held, Held)
    keeper = RecordKeeper(ledger, clock, key=KEY, held=held, write_gap_s=0.0, observer=NOBODY)
    keeper.note("start", lambda record: evolve(record, state=State.RUNNING))
    is_cut = True
    with pytest.raises(UnknownOutcomeError):
        keeper.write(lambda record: evolve(record, state=ended))
    is_cut = False
    keeper.beat()
    found = ledger.read(KEY)
    assert found is not None
    assert found.record.state is ended


def test_what_is_noted_while_a_write_is_on_its_way_goes_out_with_the_next() -> None:
    """It replaces what that write carries, and is not forgotten with it."""
    clock = ManualClock()
    later: list[RecordKeeper] = []

    def note(name: str, *_: Any, **__: Any) -> None:
        if name == "put" and later:
            later.pop().note("step", lambda record: evolve(record, ran_s=2.0))

    ledger = Ledger(Meddling(MemoryStore(clock), before=note), clock, random.Random(5))
    held = ledger.write(KEY, JobRecord("a", "w", state=State.RUNNING, epoch=1), ABSENT)
    assert isinstance(held, Held)
    keeper = RecordKeeper(ledger, clock, key=KEY, held=held, write_gap_s=0.0, observer=NOBODY)
    keeper.note("step", lambda record: evolve(record, ran_s=1.0))
    later.append(keeper)
    keeper.beat()
    assert keeper.record.ran_s == 1.0
    keeper.beat()
    assert keeper.record.ran_s == 2.0


def test_what_was_written_is_not_written_again() -> None:
    """A note says how things stood: with a later write it would take back what has come in between."""
    clock = ManualClock()
    ledger = Ledger(MemoryStore(clock), clock, random.Random(5))
    held = ledger.write(KEY, JobRecord("a", "w", state=State.RUNNING, epoch=1), ABSENT)
    assert isinstance(held, Held)
    keeper = RecordKeeper(ledger, clock, key=KEY, held=held, write_gap_s=0.0, observer=NOBODY)
    keeper.note("checkpoint", lambda record: evolve(record, state=State.CHECKPOINTING))
    keeper.beat()
    keeper.write(lambda record: evolve(record, state=State.RUNNING))
    keeper.beat()
    assert (keeper.record.state, keeper.record.beat) == (State.RUNNING, 2)
