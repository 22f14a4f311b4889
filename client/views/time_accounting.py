"""Where a job's time went: what was useful, and what was lost to what. Worked out from its record alone.

Times are of nodes' clocks, so a span between two nodes is as right as those agree; none is taken to be below zero.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final

from attrs import evolve, frozen

from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.states import State

VANISHED: Final = "vanished"


@frozen
class Spent:
    """Seconds, by what they were spent on.

    Attributes:
        useful: The workload ran, and what it did counts.
        redo: The workload ran, and another attempt had to do the same again.
        restore: Loading the input or a checkpoint, before the workload ran.
        upload: Waiting for the last upload and the last writes, after it ran.
        node_loss: From a node's last sign of life until another took over.
        idle: Waiting in the queue: at first, after a pause, a hand-back or a failure.
    """

    useful: float = 0.0
    redo: float = 0.0
    restore: float = 0.0
    upload: float = 0.0
    node_loss: float = 0.0
    idle: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(*(getattr(self, name) + getattr(other, name) for name in CAUSES))

    @property
    def stored(self) -> float:
        """Seconds for which a node worked on it: what is paid for."""
        return self.useful + self.redo + self.restore + self.upload

    @property
    def total(self) -> float:
        """All of them."""
        return self.stored + self.node_loss + self.idle


CAUSES: Final = ("useful", "redo", "restore", "upload", "node_loss", "idle")


@frozen
class TimeEntry:
    """An attempt, and what its time went to; `node_loss` and `idle` are what followed it."""

    attempt: AttemptSummary
    spent: Spent
    redone_steps: int


def entries(record: JobRecord) -> Iterator[TimeEntry]:
    """Each attempt that the record still has, oldest first."""
    attempts = record.attempts
    for number, (attempt, following) in enumerate(zip_longest(attempts, attempts[1:]), 1):
        redone = _redone_steps(attempt, record, attempts[number:])
        redo = attempt.useful_s * redone / attempt.steps if attempt.steps else 0.0
        spent = Spent(useful=attempt.useful_s - redo, redo=redo, restore=attempt.prepared_s)
        if attempt.ended:
            after = _between(attempt.started, attempt.ended) - attempt.prepared_s - attempt.useful_s
            spent = evolve(spent, upload=max(after, 0.0))
        if following:
            spent = _with_gap(spent, attempt, _between(attempt.started, following.started) - spent.stored)
        yield TimeEntry(attempt, spent, redone)


def account(record: JobRecord) -> Spent:
    """All of a job's time, as far back as its record goes: from its submission until now, or its end."""
    whole = Spent()
    for entry in entries(record):
        whole += entry.spent
    if record.timestamps.submitted:
        first = record.attempts[0] if record.attempts else None
        if first is None or first.epoch == 1:
            until = first.started if first else datetime.now(UTC).isoformat()
            whole += Spent(idle=max(_between(record.timestamps.submitted, until), 0.0))
    return whole


def _redone_steps(attempt: AttemptSummary, record: JobRecord, later: Sequence[AttemptSummary]) -> int:
    """Steps of *attempt* past the checkpoint that the next one to run went on from, or would go on from now."""
    reached = (attempt.resumed_step or 0) + attempt.steps
    for following in later:
        if following.prepared_s or following.useful_s:
            return min(max(reached - (following.resumed_step or 0), 0), attempt.steps)
    if record.state is State.COMPLETED or not (later or attempt.ended):  # it did the last step, or is at it still
        return 0
    saved = record.checkpoint.step if record.checkpoint else None
    return min(max(reached - (saved or 0), 0), attempt.steps)


def _with_gap(spent: Spent, attempt: AttemptSummary, gap_s: float) -> Spent:
    if attempt.outcome == VANISHED:
        return evolve(spent, node_loss=max(gap_s, 0.0))
    return evolve(spent, idle=max(gap_s, 0.0))


def _between(earlier: str, later: str) -> float:
    """Seconds; 0 if one of them is no time."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
