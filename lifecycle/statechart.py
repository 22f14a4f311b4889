"""docs/states.md, rendered from the table: the diagrams, what each state means, and why each edge is there."""

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

from lifecycle.states import EDGES, FINAL, OWNED, WAITING, Edge, State, Trigger

NOTICE: Final = "<!-- Generated from lifecycle/states.py by `make docs`. Do not edit. -->"

GROUPS: Final = {"waiting": WAITING, "owned": OWNED}
INSIDE: Final = (
    "An arrow from a box leaves each of the states listed in it, or only those in brackets; `→` names the state that "
    "it enters. A diamond joins arrows of the same trigger.\n\n"
    "Inside `owned`, an attempt moves like this:\n"
)
RECORDED: Final = (
    "*Recorded* says when the record learns of the change: `at once`, before the state is entered; "
    "`with the next beat`, within a heartbeat; or `never`.\n"
)


@frozen
class StateNotes:
    """What a state means, who moves it on, and what is where while it lasts."""

    meaning: str
    moved_on_by: str
    record: str
    queue: str
    bucket: str


_OWNED_RECORD: Final = "owner, epoch and lease of this attempt; renewed by every beat"
_OWNED_QUEUE: Final = "one message, invisible for a lease at a time"
_DELETED: Final = "none; one that still comes is deleted"

STATE_NOTES: Final = {
    State.QUEUED: StateNotes(
        "Submitted, and nobody has had it yet, or `holdfast retry` opened it again.",
        "the first worker that receives its message",
        "no owner",
        "one message, visible",
        "the input",
    ),
    State.RECEIVED: StateNotes(
        "A worker has the lease, and fetches what the job needs.",
        "that worker, or the next one if its lease runs out",
        _OWNED_RECORD,
        _OWNED_QUEUE,
        "the input; perhaps checkpoints",
    ),
    State.INPUT_LOADED: StateNotes(
        "The input is on the node, and the job starts from its beginning.",
        "that worker",
        _OWNED_RECORD,
        _OWNED_QUEUE,
        "the input; no committed checkpoint",
    ),
    State.RESUMED: StateNotes(
        "Input and checkpoint are on the node, every byte verified.",
        "that worker",
        f"{_OWNED_RECORD}; `resumed_step` of the attempt",
        _OWNED_QUEUE,
        "at most two committed checkpoints",
    ),
    State.RUNNING: StateNotes(
        "The workload runs.",
        "the workload, the clock, an operator, or a signal",
        f"{_OWNED_RECORD}; progress",
        _OWNED_QUEUE,
        "at most two committed checkpoints",
    ),
    State.CHECKPOINTING: StateNotes(
        "The workload runs, and a snapshot of it is being uploaded.",
        "the uploader",
        f"{_OWNED_RECORD}; still the checkpoint before",
        _OWNED_QUEUE,
        "the same, and packs that no record names yet",
    ),
    State.PAUSED_FOR_TIMEOUT: StateNotes(
        "Saved and given up in time, because an attempt must not outlast its delivery.",
        "the next worker that receives the fresh message",
        "no owner; the last checkpoint",
        "a fresh message, visible; then the old one is deleted",
        "at most two committed checkpoints",
    ),
    State.RELEASED: StateNotes(
        "Given back before its end: the node stops or is unfit, or the workload failed and is tried again.",
        "the next worker that receives the message",
        "no owner; the last checkpoint; the cause, counted",
        "the message, visible at once, or after a failure with growing delay",
        "at most two committed checkpoints",
    ),
    State.COMPLETED: StateNotes(
        "Done. The outputs are committed; then they are published, then the message is deleted.",
        "nobody",
        "the result's manifest, and whether it is published",
        f"{_DELETED}, once the outputs are published",
        "the outputs as plain files, their packs, the last checkpoint, the logs",
    ),
    State.FAILED: StateNotes(
        "Given up for good, for the reason in the record.",
        "an operator, with `holdfast retry`",
        "the error; the last checkpoint",
        _DELETED,
        "as they were: input, checkpoints, logs",
    ),
    State.CANCELLED: StateNotes(
        "Ended by an operator.",
        "an operator, with `holdfast retry`",
        "the last checkpoint",
        _DELETED,
        "as they were: input, checkpoints, logs",
    ),
    State.SUPERSEDED: StateNotes(
        "Not a state of the job but of an attempt: another epoch owns the job, and this attempt is over.",
        "nobody",
        "the other attempt's: this one writes nothing more",
        "left to the other",
        "what this attempt left uncommitted lies under its own epoch, until the owner collects it",
    ),
}


@frozen
class Change:
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


def _changes() -> list[Change]:
    """Return every edge as part of a change, in the order of State and Trigger.

    Mermaid's layout follows the order of the arrows; this one keeps the labels apart. It does not depend on the
    order of the table's rows.
    """
    rows: dict[tuple[str, Trigger, State], set[State]] = {}
    for edge in EDGES:
        rows.setdefault((_box(edge.source), edge.trigger, edge.destination), set()).add(edge.source)
    states, triggers = list(State), list(Trigger)
    return sorted(
        (Change(*row, tuple(_sorted(sources))) for row, sources in rows.items()),
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


def document() -> str:
    """The whole of docs/states.md."""
    parts = [
        NOTICE,
        "# The states of a job\n",
        "A job is **waiting** ("
        + _names(WAITING)
        + "), **owned** by an attempt ("
        + _names(OWNED)
        + ") or **over** ("
        + _names(FINAL)
        + "). `superseded` ends an attempt, not a job.\n",
        f"```mermaid\n{mermaid()}\n```\n",
        INSIDE,
        f"```mermaid\n{mermaid_attempt()}\n```\n",
        "## What each state means\n",
        _table(
            ("state", "meaning", "who moves it on", "in the record", "in the queue", "in the bucket"),
            ((f"`{s}`", m.meaning, m.moved_on_by, m.record, m.queue, m.bucket) for s, m in STATE_NOTES.items()),
        ),
        "## Why each edge is there\n",
        RECORDED,
        _table(
            ("from", "trigger", "to", "if", "recorded", "why"),
            ((f"`{e.source}`", f"`{e.trigger}`", f"`{e.destination}`", _guard(e), e.write.value, e.why) for e in EDGES),
        ),
    ]
    return "\n".join(parts)


def _names(states: Iterable[State]) -> str:
    return ", ".join(f"`{state}`" for state in State if state in set(states))


def _guard(edge: Edge) -> str:
    return edge.guard.__name__.replace("_", " ") if edge.guard else ""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
