"""The state diagrams, rendered from the table as Mermaid text: the life of a job, and that of an attempt."""

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

from lifecycle.states import EDGES, OWNED, WAITING, State, Trigger

GROUPS: Final = {"waiting": WAITING, "owned": OWNED}


@frozen
class GroupedEdges:
    """The edges with one trigger and one destination whose sources are drawn as one box.

    Attributes:
        box: The group of the sources, or the one source that is in no group.
        trigger: What fires the edges.
        destination: The state that they enter.
        sources: The states that they leave, in the order of State.
    """

    box: str
    trigger: Trigger
    destination: State
    sources: tuple[State, ...]

    @property
    def is_partial(self) -> bool:
        """Return whether other states of the box lack this change."""
        return set(self.sources) < GROUPS.get(self.box, frozenset())

    @property
    def is_inside(self) -> bool:
        """Return whether the change has to be drawn inside its box, between single states."""
        return self.is_partial and self.destination in GROUPS[self.box]


def mermaid() -> str:
    """Return the life of a job as Mermaid text, with each group of states drawn as one box.

    An arrow leaves every state of a box, or only those that its label gives in brackets. `→ state` in a label is the
    state that it enters inside a box. Mermaid draws an arrow from a box to itself across the box's other arrows, so
    such an arrow goes through a diamond, together with the other arrows of the same trigger and destination.
    """
    changes = [change for change in _changes() if not change.is_inside]
    diamonds = {
        (change.trigger, change.destination): f"{change.trigger}_{change.destination}"
        for change in changes
        if change.box == _box(change.destination)
    }
    arrows: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        target = _box(change.destination)
        only = f"[{' or<br/>'.join(change.sources)}]" if change.is_partial else ""
        entered = f"→ {change.destination}" if target in GROUPS else ""
        if diamond := diamonds.get((change.trigger, change.destination)):
            arrows.setdefault((change.box, diamond), []).append(only)
            arrows[diamond, target] = [f"{change.trigger} {entered}".rstrip()]
        else:
            words = filter(None, (change.trigger, only, entered))
            arrows.setdefault((change.box, target), []).append(("<br/>" if only else " ").join(words))
    return _state_diagram(
        f"[*] --> {_box(State.QUEUED)}: submit → {State.QUEUED}",
        *(f"{name}: {line}" for name, group in GROUPS.items() for line in (name, *_sorted(group))),
        *(f"state {diamond} <<choice>>" for diamond in diamonds.values()),
        *_arrows(arrows),
    )


def mermaid_attempt() -> str:
    """Return the life of an attempt as Mermaid text: the edges inside `owned`, which `mermaid` leaves out."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for change in _changes():
        for source in change.sources if change.is_inside else ():
            arrows.setdefault((source, change.destination), []).append(change.trigger)
    entered = {edge.destination for edge in EDGES if edge.source in WAITING and edge.destination in OWNED}
    return _state_diagram("direction LR", *(f"[*] --> {state}" for state in _sorted(entered)), *_arrows(arrows))


def _changes() -> list[GroupedEdges]:
    """Return every edge as part of a change, in the order of State and Trigger.

    Mermaid's layout follows the order of the arrows; this one keeps the labels apart. It does not depend on the
    order of the table's rows.
    """
    rows: dict[tuple[str, Trigger, State], set[State]] = {}
    for edge in EDGES:
        rows.setdefault((_box(edge.source), edge.trigger, edge.destination), set()).add(edge.source)
    states, triggers = list(State), list(Trigger)
    return sorted(
        (GroupedEdges(*row, tuple(_sorted(sources))) for row, sources in rows.items()),
        key=lambda change: (
            states.index(change.sources[0]),
            triggers.index(change.trigger),
            states.index(change.destination),
        ),
    )


def _box(state: State) -> str:
    return next((name for name, group in GROUPS.items() if state in group), state.value)


def _sorted(states: Iterable[State]) -> list[State]:
    return sorted(states, key=list(State).index)


def _arrows(arrows: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    for (source, target), lines in arrows.items():
        label = "<br/>".join(filter(None, lines))
        yield f"{source} --> {target}: {label}" if label else f"{source} --> {target}"


def _state_diagram(*lines: str) -> str:
    return "\n    ".join(("stateDiagram-v2", *lines))
