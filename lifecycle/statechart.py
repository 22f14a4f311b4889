"""docs/states.md, rendered from the table: the diagram, what each state means, and why each edge is there."""

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from lifecycle.states import EDGES, FINAL, OWNED, WAITING, Edge, State

NOTICE: Final = "<!-- Generated from lifecycle/states.py by `make docs`. Do not edit. -->"

GROUPS: Final = (WAITING, OWNED)
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


def mermaid() -> str:
    """The state diagram, as Mermaid text. An edge that leaves every state of a group is drawn once, from the group."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    shared: dict[str, None] = {}  # an ordered set: the same arrow comes once from each state of the group
    for name, group in (("waiting", WAITING), ("owned", OWNED)):
        lines += [f"    state {name} {{", *(f"        {state}" for state in State if state in group)]
        for edge in EDGES:
            if edge.source not in group:
                continue
            if _leaves_all_of(group, edge):
                shared[f"    {_arrow(name, edge)}"] = None
            elif edge.destination in group:
                lines.append(f"        {_arrow(edge.source, edge)}")
        lines.append("    }")
    lines += shared
    lines += [
        f"    {_arrow(edge.source, edge)}"
        for edge in EDGES
        if not any(
            edge.source in group and (_leaves_all_of(group, edge) or edge.destination in group) for group in GROUPS
        )
    ]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL or state is State.SUPERSEDED]
    return "\n".join(lines)


def _leaves_all_of(group: frozenset[State], edge: Edge) -> bool:
    same = {other.source for other in EDGES if (other.trigger, other.destination) == (edge.trigger, edge.destination)}
    return group <= same


def _arrow(source: str, edge: Edge) -> str:
    return f"{source} --> {edge.destination}: {edge.trigger}"


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
