"""A job's life as one table: every state, every edge, and why.

The machine (`lifecycle.machine`) is built from this table, docs/states.md is rendered from it, and the operator's
tools ask it what is legal. Nothing else says what may follow what.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from attrs import frozen


class State(StrEnum):
    """Where a job stands. All but SUPERSEDED are written in the record."""

    QUEUED = "queued"
    RECEIVED = "received"
    INPUT_LOADED = "input_loaded"
    RESUMED = "resumed"
    RUNNING = "running"
    CHECKPOINTING = "checkpointing"
    PAUSED_FOR_TIMEOUT = "paused_for_timeout"
    RELEASED = "released"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


WAITING: Final = frozenset({State.QUEUED, State.PAUSED_FOR_TIMEOUT, State.RELEASED})
"""Nobody owns the job; the next node to receive its message does."""

OWNED: Final = frozenset({State.RECEIVED, State.INPUT_LOADED, State.RESUMED, State.RUNNING, State.CHECKPOINTING})
"""An attempt owns the job for as long as its lease is fresh."""

FINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
"""The job is over; only `retry` opens a failed or cancelled one again."""


class Trigger(StrEnum):
    """What moves a job from one state to another."""

    TAKE = "take"
    LOAD_INPUT = "load_input"
    RESUME = "resume"
    START = "start"
    CHECKPOINT = "checkpoint"
    COMMIT = "commit"
    ABANDON = "abandon"
    COMPLETE = "complete"
    FAIL = "fail"
    PAUSE = "pause"
    RELEASE = "release"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    RETRY = "retry"


class Write(StrEnum):
    """When the record learns of a change of state."""

    AT_ONCE = "at once"
    NEXT_BEAT = "with the next beat"
    NEVER = "never"


@frozen
class Facts:
    """What guards may look at.

    Attributes:
        lease_fresh: Somebody else owns the job, and renewed the lease less than its length ago.
        restored: A committed checkpoint lies in the checkpoint directory.
        waiting: Another snapshot waits to be uploaded.
    """

    lease_fresh: bool = False
    restored: bool = False
    waiting: bool = False


Guard = Callable[[Facts], bool]


def nobody_owns_it(facts: Facts) -> bool:
    """No lease on the job is fresh."""
    return not facts.lease_fresh


def checkpoint_restored(facts: Facts) -> bool:
    """A committed checkpoint lies in the checkpoint directory."""
    return facts.restored


def no_checkpoint(facts: Facts) -> bool:
    """The job has no committed checkpoint: it starts from its input."""
    return not facts.restored


def another_waits(facts: Facts) -> bool:
    """A newer snapshot waits to be uploaded."""
    return facts.waiting


def none_waits(facts: Facts) -> bool:
    """No snapshot waits to be uploaded."""
    return not facts.waiting


@frozen
class Edge:
    """One row of the table.

    Attributes:
        source: The state it leaves.
        trigger: What fires it.
        destination: The state it enters.
        write: When the record learns of it.
        why: One sentence for people.
        guard: What must hold; None is always.
    """

    source: State
    trigger: Trigger
    destination: State
    write: Write
    why: str
    guard: Guard | None = None


def _edges() -> tuple[Edge, ...]:
    s, t, w = State, Trigger, Write
    active = [state for state in State if state in OWNED]
    waiting = [state for state in State if state in WAITING]
    rows = [
        *(
            Edge(
                source,
                t.TAKE,
                s.RECEIVED,
                w.AT_ONCE,
                "A worker got the message and wrote itself into the record.",
                nobody_owns_it,
            )
            for source in waiting
        ),
        *(
            Edge(
                source,
                t.TAKE,
                s.RECEIVED,
                w.AT_ONCE,
                "The owner's lease ran out, so the next worker takes over.",
                nobody_owns_it,
            )
            for source in active
        ),
        Edge(
            s.RECEIVED,
            t.LOAD_INPUT,
            s.INPUT_LOADED,
            w.NEXT_BEAT,
            "The input is here, and no checkpoint exists.",
            no_checkpoint,
        ),
        Edge(
            s.RECEIVED,
            t.RESUME,
            s.RESUMED,
            w.NEXT_BEAT,
            "Input and the last good checkpoint are here, every hash verified.",
            checkpoint_restored,
        ),
        Edge(s.INPUT_LOADED, t.START, s.RUNNING, w.NEXT_BEAT, "The workload starts from the beginning."),
        Edge(s.RESUMED, t.START, s.RUNNING, w.NEXT_BEAT, "The workload goes on from the checkpoint."),
        Edge(
            s.RUNNING,
            t.CHECKPOINT,
            s.CHECKPOINTING,
            w.NEXT_BEAT,
            "A snapshot was taken and is being uploaded; the workload runs on.",
        ),
        Edge(
            s.CHECKPOINTING,
            t.CHECKPOINT,
            s.CHECKPOINTING,
            w.NEXT_BEAT,
            "A newer snapshot replaces the one still waiting.",
        ),
        Edge(
            s.CHECKPOINTING,
            t.COMMIT,
            s.RUNNING,
            w.AT_ONCE,
            "The snapshot is uploaded, and the record points at its manifest.",
            none_waits,
        ),
        Edge(
            s.CHECKPOINTING,
            t.COMMIT,
            s.CHECKPOINTING,
            w.AT_ONCE,
            "The same, and the next snapshot is already waiting.",
            another_waits,
        ),
        Edge(
            s.CHECKPOINTING,
            t.ABANDON,
            s.RUNNING,
            w.NEXT_BEAT,
            "The upload failed or held nothing new; the last commit stands.",
            none_waits,
        ),
        Edge(
            s.CHECKPOINTING,
            t.ABANDON,
            s.CHECKPOINTING,
            w.NEXT_BEAT,
            "The same, and the next snapshot is already waiting.",
            another_waits,
        ),
    ]
    for source in (s.RUNNING, s.CHECKPOINTING):
        rows += [
            Edge(
                source,
                t.COMPLETE,
                s.COMPLETED,
                w.AT_ONCE,
                "The workload exited 0, its outputs are uploaded, and the record names them.",
            ),
            Edge(
                source,
                t.PAUSE,
                s.PAUSED_FOR_TIMEOUT,
                w.AT_ONCE,
                "MAX_RUNNING_TIME or the delivery's 12 hours are nearly over: saved, to go on under a fresh message.",
            ),
        ]
    for source in active:
        rows += [
            Edge(
                source,
                t.FAIL,
                s.FAILED,
                w.AT_ONCE,
                "The job cannot succeed: invalid, or it failed too often without getting further.",
            ),
            Edge(
                source,
                t.RELEASE,
                s.RELEASED,
                w.AT_ONCE,
                "This node gives the job back: it is stopping, is unfit, could not read what it needs, "
                "or the workload failed and may be tried again.",
            ),
            Edge(source, t.CANCEL, s.CANCELLED, w.AT_ONCE, "Somebody asked for it with `holdfast cancel`."),
            Edge(
                source,
                t.SUPERSEDE,
                s.SUPERSEDED,
                w.NEVER,
                "Another epoch owns the job: this attempt ends and writes nothing more.",
            ),
        ]
    rows += [
        Edge(
            source,
            t.CANCEL,
            s.CANCELLED,
            w.AT_ONCE,
            "Somebody asked for it with `holdfast cancel` while nobody owned it.",
        )
        for source in waiting
    ]
    rows += [
        Edge(
            source,
            t.RETRY,
            s.QUEUED,
            w.AT_ONCE,
            "Somebody asked for it with `holdfast retry`; checkpoints stay.",
        )
        for source in (s.FAILED, s.CANCELLED)
    ]
    return tuple(rows)


EDGES: Final = _edges()
"""Every legal change of state."""


def is_legal(source: State, trigger: Trigger) -> bool:
    """Whether any edge for *trigger* leaves *source*, whatever its guard says."""
    return any(edge.source is source and edge.trigger is trigger for edge in EDGES)
