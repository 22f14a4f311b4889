"""Record session: notes and writes of the owner are applied once, in order."""

import random
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from attrs import evolve
from support.fault_injection import FaultInjection

from adapters.memory.clock import ManualClock
from adapters.memory.store import MemoryStore
from lifecycle.attempt.observers import NO_OBSERVERS
from lifecycle.errors import LeaseLostError, RetryableError, UnknownOutcomeError
from lifecycle.job_record import AttemptSummary, Control, JobRecord
from lifecycle.ports.store import ABSENT
from lifecycle.record.record_store import RecordStore, StoredRecord
from lifecycle.record.session import RecordSession
from lifecycle.states import State

KEY = "records/a.json"


@pytest.mark.parametrize("ended", [State.COMPLETED, State.FAILED, State.CANCELLED, State.RELEASED])
def test_a_heartbeat_does_not_reopen_an_ended_attempt(ended: State) -> None:
    """If the end of an attempt landed and its answer was lost, a heartbeat does not apply earlier notes to it."""
    clock = ManualClock()
    memory = MemoryStore(clock)
    is_cut = False

    def lose(*_: Any, **__: Any) -> None:
        if is_cut:
            raise RetryableError("lost, on purpose")

    record_store = RecordStore(FaultInjection(memory, after=lose), clock, random.Random(5))
    stored = record_store.write(KEY, JobRecord("a", "w", state=State.RECEIVED, epoch=1), ABSENT)
    assert isinstance(stored, StoredRecord)
    session = RecordSession(record_store, clock, key=KEY, stored=stored, write_gap=timedelta(0), observer=NO_OBSERVERS)
    session.note("start", lambda record: evolve(record, state=State.RUNNING))
    is_cut = True
    with pytest.raises(UnknownOutcomeError):
        session.write(lambda record: evolve(record, state=ended))
    is_cut = False
    session.beat()
    found = record_store.read(KEY)
    assert found is not None
    assert found.record.state is ended


def test_a_note_during_a_write_is_written_with_the_next() -> None:
    """A note that replaces one in a write under way is written with the next write, and is not lost with it."""
    clock = ManualClock()
    later: list[RecordSession] = []

    def note(name: str, *_: Any, **__: Any) -> None:
        if name == "put" and later:
            later.pop().note("step", lambda record: evolve(record, ran_s=2.0))

    record_store = RecordStore(FaultInjection(MemoryStore(clock), before=note), clock, random.Random(5))
    stored = record_store.write(KEY, JobRecord("a", "w", state=State.RUNNING, epoch=1), ABSENT)
    assert isinstance(stored, StoredRecord)
    session = RecordSession(record_store, clock, key=KEY, stored=stored, write_gap=timedelta(0), observer=NO_OBSERVERS)
    session.note("step", lambda record: evolve(record, ran_s=1.0))
    later.append(session)
    session.beat()
    assert session.record.ran_s == 1.0
    session.beat()
    assert session.record.ran_s == 2.0


def test_a_note_is_written_once() -> None:
    """A note is written once: with a later write it would undo changes made in between."""
    clock = ManualClock()
    record_store = RecordStore(MemoryStore(clock), clock, random.Random(5))
    stored = record_store.write(KEY, JobRecord("a", "w", state=State.RUNNING, epoch=1), ABSENT)
    assert isinstance(stored, StoredRecord)
    session = RecordSession(record_store, clock, key=KEY, stored=stored, write_gap=timedelta(0), observer=NO_OBSERVERS)
    session.note("checkpoint", lambda record: evolve(record, state=State.CHECKPOINTING))
    session.beat()
    session.write(lambda record: evolve(record, state=State.RUNNING))
    session.beat()
    assert (session.record.state, session.record.beat) == (State.RUNNING, 2)


@pytest.mark.parametrize("owner", ["ours", "another"])
def test_race_operator_writes_before_a_lost_claim_is_read_back(owner: str) -> None:
    """A claim whose answer was lost is recognised by its attempt, even if an operator has written meanwhile."""
    clock = ManualClock()
    memory = MemoryStore(clock)
    plain = RecordStore(memory, clock, random.Random(6))

    def interfere(name: str, *_: Any, **__: Any) -> None:
        if name == "put":
            stored = plain.read(KEY)
            assert stored is not None
            attempts = stored.record.attempts if owner == "ours" else (AttemptSummary(epoch=1, node="m", started="t"),)
            asked = evolve(stored.record, attempts=attempts, control=Control(cancel=True))
            plain.write(KEY, asked, stored.version)
            raise RetryableError("lost, on purpose")

    record_store = RecordStore(FaultInjection(memory, after=interfere), clock, random.Random(5))
    claim = partial(
        RecordSession.claim, record_store, clock, key=KEY, expected=None, write_gap=timedelta(0), observer=NO_OBSERVERS
    )
    attempt = AttemptSummary(epoch=1, node="n", started="t")
    record = JobRecord("a", "w", state=State.RECEIVED, epoch=1, attempts=(attempt,))
    if owner == "another":
        with pytest.raises(LeaseLostError):
            claim(record=record)
        return
    assert claim(record=record).record.control.cancel
