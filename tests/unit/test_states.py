"""The table of states is complete, reachable, followed by the machine, and the same in code and documentation."""

import re
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transitions.extensions import GraphMachine

from client.operations import job_control
from lifecycle import states
from lifecycle.attempt.effects import AttemptEffects
from lifecycle.errors import IllegalTransitionError
from lifecycle.job_record import JobRecord
from lifecycle.machine import Event, Lifecycle, build_machine, edge_of, effect, moved
from lifecycle.statechart import mermaid
from lifecycle.states import (
    EDGES,
    FINAL,
    OWNED,
    WAITING,
    Edge,
    Effect,
    Facts,
    Recording,
    State,
    Trigger,
    edge_for,
    is_legal,
)
from lifecycle.states_page import STATE_NOTES, document

ROOT = Path(__file__).parents[2]
ALL_FACTS = [Facts(*flags) for flags in product((False, True), repeat=3)]
GUARDS = sorted({edge.guard.__name__ for edge in EDGES if edge.guard})


class Spy(Lifecycle):
    """A machine that records its callbacks."""

    def __init__(self, initial: State, *, refuses: bool = False, fails: Effect | None = None) -> None:
        super().__init__(initial)
        self.calls: list[str] = []
        self.edges: list[Edge] = []
        self._refuses = refuses
        self._fails = fails

    def record_transition(self, event: Event) -> None:
        if self._refuses:
            raise ConnectionError("refused, on purpose")
        self.calls.append("record")
        self.edges.append(edge_of(event))

    def on_entered(self, event: Event) -> None:
        self.calls.append("entered")
        self.edges.append(edge_of(event))

    def perform(self, which: Effect, event: Event) -> None:
        self.calls.append(which.value)
        self.edges.append(edge_of(event))
        if which is self._fails:
            raise OSError("on purpose")


def _method(which: Effect) -> Any:
    def perform(spy: Spy, event: Event) -> None:
        spy.perform(which, event)

    perform.__name__ = which.value
    return effect(perform)


for _each in Effect:
    setattr(Spy, _each.value, _method(_each))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_every_trigger_in_every_state_follows_its_row_or_is_illegal(state: State, trigger: Trigger) -> None:
    """A trigger follows the one row whose guard holds, with its callbacks in order, or changes nothing and raises."""
    for facts in ALL_FACTS:
        matching = [
            edge
            for edge in EDGES
            if edge.source is state and edge.trigger is trigger and (edge.guard is None or edge.guard(facts))
        ]
        assert len(matching) <= 1, "two rows for the same trigger, state and facts"
        spy = Spy(state)
        if not matching:
            with pytest.raises(IllegalTransitionError) as caught:
                spy.fire(trigger, facts=facts)
            assert (caught.value.state, caught.value.trigger) == (state, trigger)
            assert spy.state is state
            assert not spy.calls
            with pytest.raises(IllegalTransitionError):
                edge_for(state, trigger, facts)
        else:
            edge = matching[0]
            assert spy.fire(trigger, facts=facts) is edge.destination
            assert spy.calls == [*edge.before_record, "record", "entered", *edge.after_record]
            assert set(spy.edges) == {edge}
            assert edge_for(state, trigger, facts) is edge
            assert moved(JobRecord("a", "w", state=state), trigger, facts=facts).state is edge.destination


@pytest.mark.parametrize("facts", ALL_FACTS, ids=str)
def test_every_guard_decides_on_its_fact(facts: Facts) -> None:
    """A guard holds exactly when its fact says so; a guard that always or never holds fails here."""
    expected = {
        "no_other_fresh_lease": not facts.other_lease_fresh,
        "state_restored": facts.restored,
        "nothing_to_restore": not facts.restored,
        "newer_waiting": facts.newer_waiting,
        "none_waiting": not facts.newer_waiting,
    }
    assert {name: getattr(states, name)(facts) for name in GUARDS} == expected


@pytest.mark.parametrize("name", GUARDS)
def test_the_machine_evaluates_every_guard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine follows a row if its guard holds, and does not follow it if the guard refuses."""
    edge = next(edge for edge in EDGES if edge.guard and edge.guard.__name__ == name)
    monkeypatch.setattr(states, name, lambda _: False)
    spies = [Spy(edge.source) for _ in ALL_FACTS]
    for spy, facts in zip(spies, ALL_FACTS, strict=True):
        with suppress(IllegalTransitionError):
            spy.fire(edge.trigger, facts=facts)
    assert edge not in {followed for spy in spies for followed in spy.edges}
    monkeypatch.setattr(states, name, lambda _: True)
    followed = {Spy(edge.source).fire(edge.trigger, facts=facts) for facts in ALL_FACTS}
    assert edge.destination in followed


def test_a_transition_that_cannot_be_recorded_is_not_made() -> None:
    """If the record cannot be written, the state is unchanged and no later effect is performed."""
    spy = Spy(State.RUNNING, refuses=True)
    with pytest.raises(ConnectionError):
        spy.fire(Trigger.PAUSE)
    assert spy.state is State.RUNNING
    assert spy.calls == [Effect.KILL_WORKLOAD]


@pytest.mark.parametrize(
    ("edge", "failing"),
    [(edge, effect) for edge in EDGES for effect in (*edge.before_record, *edge.after_record)],
    ids=lambda part: f"{part.source}-{part.trigger}" if isinstance(part, Edge) else str(part),
)
def test_a_failed_effect_does_not_stop_the_transition(edge: Edge, failing: Effect) -> None:
    """After a failed effect the state is still entered and the other effects performed: the record decides."""
    spy = Spy(edge.source, fails=failing)
    facts = next(facts for facts in ALL_FACTS if edge.guard is None or edge.guard(facts))
    assert spy.fire(edge.trigger, facts=facts) is edge.destination
    assert spy.calls == [*edge.before_record, "record", "entered", *edge.after_record]


def test_the_attempt_has_a_method_for_every_effect_of_its_transitions() -> None:
    """Every effect of an attempt's transitions has a method; otherwise a job would fail when it reaches it."""
    required = {
        effect for edge in EDGES if not edge.by_operator for effect in (*edge.before_record, *edge.after_record)
    }
    methods = {name for name in vars(AttemptEffects) if not name.startswith("_")}
    assert {effect.value for effect in required} == methods - {"record_transition", "on_entered"}


def test_operators_have_a_function_for_every_effect_of_their_transitions() -> None:
    """Each effect of the table belongs to the attempt or to an operator's command."""
    of_operators = {each for edge in EDGES if edge.by_operator for each in (*edge.before_record, *edge.after_record)}
    of_attempts = {each for edge in EDGES if not edge.by_operator for each in (*edge.before_record, *edge.after_record)}
    assert of_operators == set(job_control.EFFECTS)
    assert of_operators | of_attempts == set(Effect)


def test_nothing_but_the_machine_sets_a_state() -> None:
    """Only `machine.entering` gives a record another state; a new record is queued."""
    setting = re.compile(
        r"(?:evolve|JobRecord)\([^\n]*\bstate=|^\s+state=(?:State|edge|\w+\.destination)", re.MULTILINE
    )
    allowed = {"lifecycle/machine.py", "adapters/telemetry/metrics.py", "client/web/pages.py"}
    found = {
        str(path.relative_to(ROOT))
        for ring in ("lifecycle", "adapters", "client")
        for path in (ROOT / ring).rglob("*.py")
        if setting.search(path.read_text())
    }
    assert found <= allowed
    assert "lifecycle/machine.py" in found


def test_the_machine_can_be_inspected() -> None:
    """A `GraphMachine` of the table draws every transition with the name of its guard."""
    spy = Spy(State.QUEUED)
    machine = build_machine(GraphMachine, graph_engine="mermaid", show_conditions=True)
    machine.add_model(spy, initial=State.QUEUED)
    drawn = spy.get_graph().source  # type: ignore[attr-defined]
    for edge in EDGES:
        assert f"{edge.source.name} --> {edge.destination.name}" in drawn
    for guard in GUARDS:
        assert f"[{guard}]" in drawn


def test_every_state_is_reachable_and_every_job_can_finish() -> None:
    """Every state is reachable from queued, and only completed and superseded have no way out."""
    reachable = {State.QUEUED}
    while more := {edge.destination for edge in EDGES if edge.source in reachable} - reachable:
        reachable |= more
    assert reachable == set(State)
    ends = {state for state in State if not any(edge.source is state for edge in EDGES)}
    assert ends == {State.COMPLETED, State.SUPERSEDED}


def test_every_state_is_waiting_owned_or_final() -> None:
    """The three groups share no state, and only superseded, which no record has, is in none of them."""
    assert not WAITING & OWNED
    assert not WAITING & FINAL
    assert not OWNED & FINAL
    assert set(State) - WAITING - OWNED - FINAL == {State.SUPERSEDED}


def test_the_end_of_ownership_is_recorded_at_once() -> None:
    """No transition out of ownership waits for a heartbeat, and being superseded writes nothing."""
    for edge in EDGES:
        if edge.source in OWNED and edge.destination not in OWNED:
            assert edge.recorded is (Recording.NEVER if edge.destination is State.SUPERSEDED else Recording.AT_ONCE)


def test_the_message_is_acknowledged_last() -> None:
    """The message is acknowledged after the record is written, and deleted after sending and publishing."""
    for edge in EDGES:
        settled = {Effect.DELETE_MESSAGE, Effect.RELEASE_MESSAGE, Effect.SEND_CONTINUATION, Effect.PUBLISH_OUTPUTS}
        assert not settled & set(edge.before_record)
        if Effect.DELETE_MESSAGE in edge.after_record:
            at = edge.after_record.index(Effect.DELETE_MESSAGE)
            assert not {Effect.SEND_CONTINUATION, Effect.PUBLISH_OUTPUTS} & set(edge.after_record[at:])
        if edge.source in OWNED and edge.destination not in OWNED:
            assert Effect.KILL_WORKLOAD in edge.before_record


def test_is_legal_agrees_with_the_table() -> None:
    """`is_legal` answers as the table does; operators' commands ask it."""
    assert is_legal(State.FAILED, Trigger.RETRY)
    assert not is_legal(State.COMPLETED, Trigger.RETRY)
    assert not is_legal(State.COMPLETED, Trigger.CANCEL)


def test_the_document_is_up_to_date() -> None:
    """docs/states.md equals the page rendered from the table, byte for byte; `make docs` writes it."""
    assert (ROOT / "docs" / "states.md").read_bytes() == document().encode()


def test_the_readme_shows_the_same_diagram() -> None:
    """The README contains the diagram of the code; `make docs` writes it."""
    assert f"```mermaid\n{mermaid()}\n```" in (ROOT / "README.md").read_text()


def test_the_document_lists_every_state_transition_and_effect() -> None:
    """Each state has its notes, each transition its row, and each row its effects."""
    assert set(STATE_NOTES) == set(State)
    text = document()
    for edge in EDGES:
        row = next(
            line
            for line in text.splitlines()
            if line.startswith(f"| `{edge.source}` | `{edge.trigger}` | `{edge.destination}` |") and edge.why in line
        )
        for each in (*edge.before_record, *edge.after_record):
            assert f"`{each}`" in row
    assert all(state in mermaid() for state in State)
