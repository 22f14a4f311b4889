"""The table of states: complete, reachable, and the same in code, machine and document."""

from itertools import product
from pathlib import Path

import pytest

from lifecycle.errors import IllegalTransitionError
from lifecycle.machine import Lifecycle
from lifecycle.statechart import STATE_NOTES, document, mermaid
from lifecycle.states import EDGES, FINAL, OWNED, WAITING, Edge, Facts, State, Trigger, Write, is_legal

ALL_FACTS = [Facts(*flags) for flags in product((False, True), repeat=3)]


def edge_for(state: State, trigger: Trigger, facts: Facts) -> Edge | None:
    found = [
        edge
        for edge in EDGES
        if edge.source is state and edge.trigger is trigger and (edge.guard is None or edge.guard(facts))
    ]
    assert len(found) <= 1, "two edges for the same trigger, state and facts"
    return found[0] if found else None


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_every_trigger_in_every_state_follows_its_row_or_is_illegal(state: State, trigger: Trigger) -> None:
    """A trigger either follows the one row whose guard holds, hooks included, or changes nothing and says so."""
    for facts in ALL_FACTS:
        recorded: list[Edge] = []
        entered: list[Edge] = []
        observed: list[Edge] = []
        machine = Lifecycle(
            state,
            record=lambda edge, _, recorded=recorded: recorded.append(edge),
            entered=dict.fromkeys(State, entered.append),
            observed=observed.append,
        )
        edge = edge_for(state, trigger, facts)
        if edge is None:
            with pytest.raises(IllegalTransitionError) as caught:
                machine.fire(trigger, facts=facts)
            assert (caught.value.state, caught.value.trigger) == (state, trigger)
            assert machine.state is state
            assert not recorded
            assert not entered
            assert not observed
        else:
            assert machine.fire(trigger, facts=facts) is edge.destination
            assert recorded == entered == observed == [edge]


def test_a_state_that_cannot_be_recorded_is_not_entered() -> None:
    """If the hook before the change raises, the state is as it was and no hook after it runs."""
    entered: list[Edge] = []

    def refuse(edge: Edge, change: object) -> None:
        raise ConnectionError(edge.destination)

    machine = Lifecycle(State.QUEUED, record=refuse, entered={State.RECEIVED: entered.append}, observed=entered.append)
    with pytest.raises(ConnectionError):
        machine.fire(Trigger.TAKE)
    assert machine.state is State.QUEUED
    assert not entered


def test_every_state_is_reachable_and_only_the_over_ones_are_ends() -> None:
    """From queued every state can be reached, and a job that is not over can always get to its end."""
    reached = {State.QUEUED}
    while more := {edge.destination for edge in EDGES if edge.source in reached} - reached:
        reached |= more
    assert reached == set(State)
    ends = {state for state in State if not any(edge.source is state for edge in EDGES)}
    assert ends == {State.COMPLETED, State.SUPERSEDED}


def test_every_state_is_waiting_owned_or_over() -> None:
    """The three groups share no state, and leave out only superseded, which no record has."""
    assert not WAITING & OWNED
    assert not WAITING & FINAL
    assert not OWNED & FINAL
    assert set(State) - WAITING - OWNED - FINAL == {State.SUPERSEDED}


def test_what_ends_ownership_is_recorded_at_once() -> None:
    """No edge out of ownership waits for a beat, and being superseded writes nothing."""
    for edge in EDGES:
        if edge.source in OWNED and edge.destination not in OWNED:
            assert edge.write is (Write.NEVER if edge.destination is State.SUPERSEDED else Write.AT_ONCE)


def test_is_legal_agrees_with_the_table() -> None:
    """`is_legal` is what operators' commands ask."""
    assert is_legal(State.FAILED, Trigger.RETRY)
    assert not is_legal(State.COMPLETED, Trigger.RETRY)
    assert not is_legal(State.COMPLETED, Trigger.CANCEL)


def test_the_document_is_up_to_date() -> None:
    """docs/states.md is what the table says, byte for byte; `make docs` writes it."""
    written = Path(__file__).parents[2] / "docs" / "states.md"
    assert written.read_bytes() == document().encode()


def test_the_readme_shows_the_same_diagram() -> None:
    """What a newcomer sees first is what the code does; `make docs` writes it."""
    assert f"```mermaid\n{mermaid()}\n```" in (Path(__file__).parents[2] / "README.md").read_text()


def test_the_document_tells_every_state_and_every_edge() -> None:
    """Each state has its meaning, each edge its row, and the diagram is balanced and names every state."""
    assert set(STATE_NOTES) == set(State)
    text = document()
    for edge in EDGES:
        assert f"| `{edge.source}` | `{edge.trigger}` | `{edge.destination}` |" in text
    diagram = mermaid()
    assert diagram.count("{") == diagram.count("}")
    assert all(state in diagram for state in State)
