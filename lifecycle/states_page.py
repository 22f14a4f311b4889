"""docs/states.md, rendered from the table: the diagrams, the meaning of each state, and every transition."""

from collections.abc import Iterable
from typing import Final

from attrs import frozen

from lifecycle.statechart import mermaid, mermaid_attempt
from lifecycle.states import EDGES, FINAL, OWNED, WAITING, Edge, Effect, State

NOTICE: Final = "<!-- Generated from lifecycle/states.py by `make docs`. Do not edit. -->"
READING: Final = (
    "An arrow from a box leaves each of the states listed in it, or only those in brackets; `→` names the state that "
    "it enters. A diamond joins arrows of the same trigger.\n\n"
    "Inside `owned`, an attempt moves like this:\n"
)
COLUMNS: Final = (
    "*Recorded* says when the record learns of the transition: `at once`, before the state is entered; "
    "`with the next heartbeat`; or `never`. *Effects* run in order: those left of the arrow before the record is "
    "written, those right of it afterwards. An effect that fails, or that a dying node leaves undone, is redone by the "
    "next worker that receives the job's message. Transitions marked *operator* are made by `holdfast cancel`, "
    "`holdfast retry`, `holdfast reconcile` or the dashboard, all others by the attempt.\n"
)


@frozen
class StateNotes:
    """Notes on a state for people.

    Attributes:
        meaning: Meaning of the state.
        moved_on_by: Who makes the next transition.
        record: Content of the record while the state lasts.
        queue: Content of the queue.
        bucket: Content of the bucket.
    """

    meaning: str
    moved_on_by: str
    record: str
    queue: str
    bucket: str


_OWNED_RECORD: Final = "owner, epoch and lease of this attempt, renewed by every heartbeat"
_OWNED_QUEUE: Final = "one message, invisible for one lease at a time"
_DELETED: Final = "none; a message that still arrives is deleted"

STATE_NOTES: Final = {
    State.QUEUED: StateNotes(
        "Submitted and not yet claimed, or reopened with `holdfast retry`.",
        "the first worker that receives its message",
        "no owner",
        "one message, visible",
        "the input",
    ),
    State.RECEIVED: StateNotes(
        "A worker holds the lease and stages the job: it loads the input and restores the checkpoint.",
        "that worker, or the next one if its lease runs out",
        _OWNED_RECORD,
        _OWNED_QUEUE,
        "the input, and checkpoints if there are any",
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
        "the last two committed checkpoints, and those that are kept",
    ),
    State.RUNNING: StateNotes(
        "The workload runs.",
        "the workload, the clock, an operator or a signal",
        f"{_OWNED_RECORD}; progress",
        _OWNED_QUEUE,
        "the last two committed checkpoints, and those that are kept",
    ),
    State.CHECKPOINTING: StateNotes(
        "The workload runs, and a snapshot of it is being uploaded.",
        "the uploader",
        f"{_OWNED_RECORD}; still the previous checkpoint",
        _OWNED_QUEUE,
        "the last two committed checkpoints, and those that are kept, and packs that no record names yet",
    ),
    State.PAUSED_FOR_TIMEOUT: StateNotes(
        "Saved and given up before the time limit of its delivery.",
        "the next worker that receives the continuation",
        "no owner; the last checkpoint",
        "the continuation, visible; then the old message is deleted",
        "the last two committed checkpoints, and those that are kept",
    ),
    State.RELEASED: StateNotes(
        "Given back early: the node is stopping or unfit, or the workload failed and will be tried again.",
        "the next worker that receives the message",
        "no owner; the last checkpoint; the cause, counted",
        "the message, visible at once or, after a failure, with a growing delay",
        "the last two committed checkpoints, and those that are kept",
    ),
    State.COMPLETED: StateNotes(
        "Done. The outputs are committed; then they are published, then the message is deleted.",
        "final",
        "the result's manifest, and whether it is published",
        f"{_DELETED}, once the outputs are published",
        "the outputs as plain files, their packs, the last checkpoint, the logs",
    ),
    State.FAILED: StateNotes(
        "Given up for good, for the reason in the record.",
        "an operator, with `holdfast retry`",
        "the error; the last checkpoint",
        _DELETED,
        "unchanged: input, checkpoints, logs",
    ),
    State.CANCELLED: StateNotes(
        "Ended by an operator.",
        "an operator, with `holdfast retry`",
        "the last checkpoint",
        _DELETED,
        "unchanged: input, checkpoints, logs",
    ),
    State.SUPERSEDED: StateNotes(
        "The end of an attempt, not of the job: another epoch owns the job.",
        "final",
        "the other attempt's: this one writes nothing more",
        "left to the other attempt",
        "uncommitted objects under this attempt's epoch, until the owner collects them",
    ),
}


def document() -> str:
    """Return the text of docs/states.md."""
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
        READING,
        f"```mermaid\n{mermaid_attempt()}\n```\n",
        "## What each state means\n",
        _table(
            ("state", "meaning", "who moves it on", "in the record", "in the queue", "in the bucket"),
            ((f"`{s}`", m.meaning, m.moved_on_by, m.record, m.queue, m.bucket) for s, m in STATE_NOTES.items()),
        ),
        "## Every transition, its effects and its reason\n",
        COLUMNS,
        _table(
            ("from", "trigger", "to", "if", "recorded", "effects", "why"),
            (
                (
                    f"`{edge.source}`",
                    f"`{edge.trigger}`",
                    f"`{edge.destination}`",
                    _condition(edge),
                    edge.recorded.value,
                    _effects(edge),
                    edge.why,
                )
                for edge in EDGES
            ),
        ),
    ]
    return "\n".join(parts)


def _names(states: Iterable[State]) -> str:
    return ", ".join(f"`{state}`" for state in State if state in set(states))


def _condition(edge: Edge) -> str:
    conditions = ["*operator*"] if edge.by_operator else []
    return ", ".join([*conditions, *([edge.guard.__name__.replace("_", " ")] if edge.guard else [])])


def _effects(edge: Edge) -> str:
    if not edge.before_record and not edge.after_record:
        return ""
    return f"{_listed(edge.before_record)} → {_listed(edge.after_record)}".strip()


def _listed(effects: Iterable[Effect]) -> str:
    return ", ".join(f"`{effect}`" for effect in effects)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
