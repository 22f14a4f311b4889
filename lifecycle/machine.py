"""The state machine, built from the table in `lifecycle.states` with the `transitions` package.

A transition runs its callbacks in this order: the effects that come before the record, `record_transition`, the change
of state, `on_entered`, and the effects that come after the record. If `record_transition` raises, the state stays as it
was: a state that could not be recorded is not entered. Effects never raise (see `effect`), because `transitions` does
not roll back a change of state that has happened.

This module is the only one that imports `transitions`, https://github.com/pytransitions/transitions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Final, TypeVar

from attrs import evolve
from transitions import EventData, Machine, MachineError

from lifecycle import states
from lifecycle.errors import IllegalTransitionError
from lifecycle.job_record import JobRecord
from lifecycle.states import EDGES, Edge, Facts, State, Trigger, edge_for
from lifecycle.structured_log import StructuredLogger

Change = Callable[[JobRecord], JobRecord]
"""What a transition does to the record: pure, and harmless when applied to its own result."""

Event = EventData
"""A transition under way. `kwargs` holds what was given to `Lifecycle.fire`."""

ModelT = TypeVar("ModelT", bound="Lifecycle")

log = StructuredLogger("holdfast.machine")


def unchanged(record: JobRecord) -> JobRecord:
    """Return *record* as it is: the change of a transition that changes only the state."""
    return record


def entering(edge: Edge, change: Change = unchanged) -> Change:
    """Return *change* followed by the change of state along *edge*. Nothing else sets the state of a record."""
    return lambda record: evolve(change(record), state=edge.destination)


def moved(record: JobRecord, trigger: Trigger, *, facts: Facts | None = None, change: Change = unchanged) -> JobRecord:
    """Return *record* after *trigger*: for operators, who move a job without running it.

    Raises:
        IllegalTransitionError: The table has no such transition, or its guard refuses.
    """
    return entering(edge_for(record.state, trigger, facts or Facts()), change)(record)


def effect(perform: Callable[[ModelT, Event], None]) -> Callable[[ModelT, Event], None]:
    """Mark a method as an effect: an error in it is logged and does not leave the machine.

    The record decides, so what a failed effect left undone is redone by the next worker that receives the message.
    """

    @wraps(perform)
    def never_raising(model: ModelT, event: Event) -> None:
        try:
            perform(model, event)
        except Exception:
            log.exception("effect.failed", effect=perform.__name__, trigger=event.event.name)

    return never_raising


class Lifecycle(ABC):
    """Base of the models that the machine moves. Not thread-safe: one thread owns each.

    The guards of the table are methods by their names. A subclass adds one method for each effect.

    Args:
        initial: State of the record as it was read.

    Attributes:
        state: The current state.
    """

    def __init__(self, initial: State) -> None:
        self.state = initial

    def fire(
        self, trigger: Trigger, *, facts: Facts | None = None, change: Change = unchanged, **payload: Any
    ) -> State:
        """Follow the row for *trigger* whose guard *facts* satisfy.

        Args:
            trigger: What happened.
            facts: What has been established about the job.
            change: What else the record learns.
            payload: What the effects need; they find it in the event's `kwargs`.

        Returns:
            The state entered.

        Raises:
            IllegalTransitionError: There is no such row, or its guard refuses; nothing happened.
            Exception: Raised by `record_transition`; the state is as it was.
        """
        event, source = machine().events[trigger.value], self.state
        try:
            followed = event.trigger(self, facts=facts or Facts(), change=change, **payload)
        except MachineError as error:
            raise IllegalTransitionError(source, trigger) from error
        if not followed:
            raise IllegalTransitionError(source, trigger)
        return self.state

    @abstractmethod
    def record_transition(self, event: Event) -> None:
        """Write the transition to the record, or note it, as its row says."""

    @abstractmethod
    def on_entered(self, event: Event) -> None:
        """Tell observers of the transition. Must not raise."""

    # ---- the guards of the table ----

    def no_other_fresh_lease(self, event: Event) -> bool:
        """Return whether the guard of this name holds."""
        return states.no_other_fresh_lease(event.kwargs["facts"])

    def state_restored(self, event: Event) -> bool:
        """Return whether the guard of this name holds."""
        return states.state_restored(event.kwargs["facts"])

    def nothing_to_restore(self, event: Event) -> bool:
        """Return whether the guard of this name holds."""
        return states.nothing_to_restore(event.kwargs["facts"])

    def newer_waiting(self, event: Event) -> bool:
        """Return whether the guard of this name holds."""
        return states.newer_waiting(event.kwargs["facts"])

    def none_waiting(self, event: Event) -> bool:
        """Return whether the guard of this name holds."""
        return states.none_waiting(event.kwargs["facts"])


def build_machine(kind: type[Machine] = Machine, **options: Any) -> Any:
    """Return a machine with the states and transitions of the table, but without a model.

    Args:
        kind: The class to build, such as `transitions.extensions.GraphMachine`, whose diagrams then carry the names of
            guards and effects.
        options: Further arguments of that class.
    """
    built = kind(
        model=None, states=list(State), initial=State.QUEUED, auto_transitions=False, send_event=True, **options
    )
    for edge in EDGES:
        built.add_transition(
            edge.trigger.value,
            edge.source,
            edge.destination,
            conditions=[edge.guard.__name__] if edge.guard else None,
            before=[*(effect.value for effect in edge.before_record), "record_transition"],
            after=["on_entered", *(effect.value for effect in edge.after_record)],
        )
    return built


@cache
def machine() -> Machine:
    """Return the machine that all models share: building it takes a hundred times as long as a transition."""
    built: Machine = build_machine()
    return built


def edge_of(event: Event) -> Edge:
    """Return the row that *event* follows."""
    found: Any = event.transition  # which names its two states by the names of their members
    return _BY_ENDS[State[found.source], Trigger(event.event.name), State[found.dest]]


_BY_ENDS: Final = {(edge.source, edge.trigger, edge.destination): edge for edge in EDGES}
