"""The life of a job as one table: every state, every transition with its effects, and the reason for each.

The table decides. The machine (`lifecycle.machine`) is built from it, docs/states.md is rendered from it, and
operators' commands ask it which changes are legal. No other code says which state may follow which.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from attrs import frozen

from lifecycle.errors import IllegalTransitionError


class State(StrEnum):
    """Progress of a job. The record holds every state but SUPERSEDED, which ends an attempt and not a job."""

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
"""No attempt owns the job. The next worker that receives its message claims it."""

OWNED: Final = frozenset({State.RECEIVED, State.INPUT_LOADED, State.RESUMED, State.RUNNING, State.CHECKPOINTING})
"""An attempt owns the job for as long as its lease is fresh."""

FINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
"""The job is over. Only `retry` reopens a failed or cancelled job."""


class Trigger(StrEnum):
    """Event that moves a job from one state to another."""

    TAKE = "take"
    STAGE = "stage"
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


class Recording(StrEnum):
    """Moment at which the record learns of a transition."""

    AT_ONCE = "at once"
    NEXT_BEAT = "with the next heartbeat"
    NEVER = "never"


class Effect(StrEnum):
    """Side effect of a transition. The value names the method that performs it.

    The attempt has one method per effect of a worker's transition (`lifecycle.attempt.effects`); the effects of an
    operator's are functions in `client.operations.job_control`. Delivering notices is no effect: the outbox
    in the record keeps them until they are delivered.
    """

    KILL_WORKLOAD = "kill_workload"
    QUEUE_SNAPSHOT = "queue_snapshot"
    DISCARD_SNAPSHOT = "discard_snapshot"
    COLLECT_GARBAGE = "collect_garbage"
    STOP_HEARTBEAT = "stop_heartbeat"
    SEND_CONTINUATION = "send_continuation"
    RELEASE_MESSAGE = "release_message"
    PUBLISH_OUTPUTS = "publish_outputs"
    DELETE_MESSAGE = "delete_message"
    STOP_UPLOADS = "stop_uploads"
    STOP_NOTIFICATIONS = "stop_notifications"
    ANNOUNCE_JOB = "announce_job"


@frozen
class Facts:
    """Established facts that guards decide on.

    Attributes:
        other_lease_fresh: Another attempt owns the job, and renewed its lease less than the lease's length ago.
        restored: A state to resume from lies in the checkpoint directory: a committed checkpoint, verified, or the
            state left by the Salad demo's worker.
        newer_waiting: A newer snapshot waits to be uploaded.
    """

    other_lease_fresh: bool = False
    restored: bool = False
    newer_waiting: bool = False


Guard = Callable[[Facts], bool]


def no_other_fresh_lease(facts: Facts) -> bool:
    """Return whether no other attempt holds a fresh lease on the job."""
    return not facts.other_lease_fresh


def state_restored(facts: Facts) -> bool:
    """Return whether the checkpoint directory holds a state to resume from."""
    return facts.restored


def nothing_to_restore(facts: Facts) -> bool:
    """Return whether the job has no state to resume from, and so starts from its input."""
    return not facts.restored


def newer_waiting(facts: Facts) -> bool:
    """Return whether a newer snapshot waits to be uploaded."""
    return facts.newer_waiting


def none_waiting(facts: Facts) -> bool:
    """Return whether no snapshot waits to be uploaded."""
    return not facts.newer_waiting


@frozen
class Edge:
    """One row of the table.

    Attributes:
        source: State that the transition leaves.
        trigger: Event that fires it.
        destination: State that it enters.
        recorded: Moment at which the record learns of it.
        before_record: Effects performed, in this order, before the record is written.
        after_record: Effects performed, in this order, once the record is written. What they leave undone, because
            they failed or the node died, is redone by the next worker that receives the job's message.
        why: Reason for the transition, in one sentence for people.
        guard: Condition that must hold; None if there is none.
        by_operator: Whether an operator's command performs it, and no attempt.
    """

    source: State
    trigger: Trigger
    destination: State
    recorded: Recording
    before_record: tuple[Effect, ...]
    after_record: tuple[Effect, ...]
    why: str
    guard: Guard | None = None
    by_operator: bool = False


def _rows(  # noqa: PLR0913 - the columns of the table
    sources: Iterable[State],
    trigger: Trigger,
    destination: State,
    recorded: Recording,
    why: str,
    *,
    before: Iterable[Effect] = (),
    after: Iterable[Effect] = (),
    guard: Guard | None = None,
    by_operator: bool = False,
) -> list[Edge]:
    """Return one row for each of *sources*, in the order of `State`."""
    return [
        Edge(source, trigger, destination, recorded, tuple(before), tuple(after), why, guard, by_operator)
        for source in State
        if source in set(sources)
    ]


def _table() -> tuple[Edge, ...]:
    s, t, e = State, Trigger, Effect
    now, beat, never = Recording.AT_ONCE, Recording.NEXT_BEAT, Recording.NEVER
    busy = (s.RUNNING, s.CHECKPOINTING)
    # fmt: off
    return (
        *_rows(WAITING, t.TAKE, s.RECEIVED, now, "A worker received the message and claimed the job.",
               guard=no_other_fresh_lease),
        *_rows(OWNED, t.TAKE, s.RECEIVED, now, "The owner's lease ran out, so the next worker takes over.",
               guard=no_other_fresh_lease),
        *_rows([s.RECEIVED], t.STAGE, s.INPUT_LOADED, beat, "The input is on the node, and no checkpoint exists.",
               guard=nothing_to_restore),
        *_rows([s.RECEIVED], t.STAGE, s.RESUMED, beat,
               "Input and the last good checkpoint are on the node, every digest verified.",
               guard=state_restored),
        *_rows([s.INPUT_LOADED], t.START, s.RUNNING, beat, "The workload starts from the beginning."),
        *_rows([s.RESUMED], t.START, s.RUNNING, beat, "The workload continues from the checkpoint."),
        *_rows([s.RUNNING], t.CHECKPOINT, s.CHECKPOINTING, beat,
               "A snapshot was taken and is being uploaded while the workload runs on.",
               after=[e.QUEUE_SNAPSHOT]),
        *_rows([s.CHECKPOINTING], t.CHECKPOINT, s.CHECKPOINTING, beat,
               "A newer snapshot replaces the one that waits to be uploaded.",
               after=[e.QUEUE_SNAPSHOT]),
        *_rows([s.CHECKPOINTING], t.COMMIT, s.RUNNING, now,
               "The snapshot is uploaded, and the record points at its manifest.",
               after=[e.COLLECT_GARBAGE], guard=none_waiting),
        *_rows([s.CHECKPOINTING], t.COMMIT, s.CHECKPOINTING, now,
               "The snapshot is uploaded and recorded, and a newer one already waits.",
               after=[e.COLLECT_GARBAGE], guard=newer_waiting),
        *_rows([s.CHECKPOINTING], t.ABANDON, s.RUNNING, beat,
               "The upload failed or held nothing new; the last commit stands.",
               after=[e.DISCARD_SNAPSHOT], guard=none_waiting),
        *_rows([s.CHECKPOINTING], t.ABANDON, s.CHECKPOINTING, beat,
               "The upload failed or held nothing new, and a newer snapshot already waits.",
               after=[e.DISCARD_SNAPSHOT], guard=newer_waiting),
        *_rows(busy, t.COMPLETE, s.COMPLETED, now,
               "The workload exited 0, its outputs are uploaded, and the record names them.",
               before=[e.KILL_WORKLOAD], after=[e.PUBLISH_OUTPUTS, e.DELETE_MESSAGE, e.COLLECT_GARBAGE]),
        *_rows(busy, t.PAUSE, s.PAUSED_FOR_TIMEOUT, now,
               "MAX_RUNNING_TIME or the 12-hour limit is nearly reached: the state is saved, "
               "and a new message continues the job.",
               before=[e.KILL_WORKLOAD],
               after=[e.STOP_HEARTBEAT, e.SEND_CONTINUATION, e.DELETE_MESSAGE, e.COLLECT_GARBAGE]),
        *_rows(OWNED, t.FAIL, s.FAILED, now,
               "The job cannot succeed: it is invalid, fits no node, or failed too often without getting further.",
               before=[e.KILL_WORKLOAD], after=[e.DELETE_MESSAGE, e.COLLECT_GARBAGE]),
        *_rows(OWNED, t.RELEASE, s.RELEASED, now,
               "This node gives the job back: it is stopping or unfit, cannot run it, could not read what it needs, "
               "or the workload failed and may be tried again.",
               before=[e.KILL_WORKLOAD], after=[e.STOP_HEARTBEAT, e.RELEASE_MESSAGE, e.COLLECT_GARBAGE]),
        *_rows(OWNED, t.CANCEL, s.CANCELLED, now,
               "An operator cancelled the job: its owner ends it, or `holdfast cancel` does if no owner is alive.",
               before=[e.KILL_WORKLOAD], after=[e.DELETE_MESSAGE], guard=no_other_fresh_lease),
        *_rows(OWNED, t.SUPERSEDE, s.SUPERSEDED, never,
               "Another epoch owns the job: this attempt ends and writes nothing more.",
               before=[e.KILL_WORKLOAD], after=[e.STOP_UPLOADS, e.STOP_NOTIFICATIONS]),
        *_rows(WAITING, t.CANCEL, s.CANCELLED, now, "An operator cancelled the job while no attempt owned it.",
               by_operator=True),
        *_rows([s.FAILED, s.CANCELLED], t.RETRY, s.QUEUED, now,
               "An operator reopened the job with `holdfast retry`; its checkpoints stay.",
               after=[e.ANNOUNCE_JOB], by_operator=True),
    )
    # fmt: on


EDGES: Final = _table()
"""Every legal transition."""


def is_legal(source: State, trigger: Trigger) -> bool:
    """Return whether any row for *trigger* leaves *source*, regardless of its guard."""
    return any(edge.source is source and edge.trigger is trigger for edge in EDGES)


def edge_for(source: State, trigger: Trigger, facts: Facts) -> Edge:
    """Return the row for *trigger* out of *source* whose guard holds for *facts*.

    Raises:
        IllegalTransitionError: There is no such row, or its guard refuses.
    """
    for edge in EDGES:
        if edge.source is source and edge.trigger is trigger and (edge.guard is None or edge.guard(facts)):
            return edge
    raise IllegalTransitionError(source, trigger)
