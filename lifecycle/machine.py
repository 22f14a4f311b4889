"""The state machine of one attempt, built from the table. The only importer of `transitions`.

A change of state goes through two hooks. *record* runs before it: if that raises, the state stays as it was, so a
state that could not be recorded is not entered. *entered* runs after it and must not fail, since nothing would undo
the change (transitions: callbacks after the change do not roll back).
"""

from collections.abc import Callable, Mapping
from functools import cache

from attrs import define
from transitions import EventData, Machine, MachineError

from lifecycle.errors import IllegalTransitionError
from lifecycle.job_record import JobRecord
from lifecycle.states import EDGES, Edge, Facts, Guard, State, Trigger

Change = Callable[[JobRecord], JobRecord]
"""What a transition does to the record: pure, and harmless when applied to its own result."""


def unchanged(record: JobRecord) -> JobRecord:
    """The change that changes nothing but the state."""
    return record


class Lifecycle:
    """Where one attempt stands. Not thread-safe: one thread owns it.

    Args:
        initial: The state of the record as it was read.
        record: Called with the edge and the caller's change before the state changes.
        entered: For some states, what happens once they are entered; called with the edge.
        observed: Called with every edge that was followed, before that.
    """

    def __init__(
        self,
        initial: State,
        *,
        record: Callable[[Edge, Change], None],
        entered: Mapping[State, Callable[[Edge], None]],
        observed: Callable[[Edge], None],
    ) -> None:
        self._model = _Position(initial, record, entered, observed)

    @property
    def state(self) -> State:
        """The current state."""
        return State(self._model.state)

    def fire(self, trigger: Trigger, *, facts: Facts | None = None, change: Change = unchanged) -> State:
        """Follow the edge for *trigger* whose guard *facts* satisfy, and return the state entered.

        Raises:
            IllegalTransitionError: There is no such edge; nothing happened.
            Exception: Whatever the *record* hook raised; the state is as it was.
        """
        before = self.state
        try:
            moved = _machine().events[trigger.value].trigger(self._model, facts=facts or Facts(), change=change)
        except MachineError as error:
            raise IllegalTransitionError(before, trigger) from error
        if not moved:
            raise IllegalTransitionError(before, trigger)
        return self.state


@define
class _Position:
    """What `transitions` moves about: one attempt's state, with its hooks."""

    state: str
    record: Callable[[Edge, Change], None]
    entered: Mapping[State, Callable[[Edge], None]]
    observed: Callable[[Edge], None]

    def follow(self, edge: Edge) -> None:
        """What comes after a change of state."""
        self.observed(edge)
        if edge.destination in self.entered:
            self.entered[edge.destination](edge)


@cache
def _machine() -> Machine:
    """The one machine, for all positions: making it takes a hundred times as long as a transition does."""
    machine = Machine(model=None, states=list(State), initial=State.QUEUED, auto_transitions=False, send_event=True)
    for edge in EDGES:
        machine.add_transition(
            edge.trigger.value,
            edge.source,
            edge.destination,
            conditions=[_condition(edge.guard)] if edge.guard else None,
            before=[lambda event, edge=edge: event.model.record(edge, event.kwargs["change"])],
            after=[lambda event, edge=edge: event.model.follow(edge)],
        )
    return machine


def _condition(guard: Guard) -> Callable[[EventData], bool]:
    return lambda event: guard(event.kwargs["facts"])
