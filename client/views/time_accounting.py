"""Time accounting: a job's useful time and its losses by cause, computed from its record alone.

Times are by the nodes' clocks, so a span between two nodes is only as accurate as those agree. No span is negative.
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
class TimeBreakdown:
    """Seconds by cause.

    Attributes:
        useful: The workload ran, and its work counts.
        redo: The workload ran, and another attempt had to repeat its work.
        restore: Loading the input or a checkpoint, before the workload ran.
        upload: Waiting for the last upload and the last writes, after the workload ran.
        node_loss: From a node's last sign of life until another node took over.
        idle: Waiting in the queue: at first, and after a pause, a release or a failure.
    """

    useful: float = 0.0
    redo: float = 0.0
    restore: float = 0.0
    upload: float = 0.0
    node_loss: float = 0.0
    idle: float = 0.0

    def __add__(self, other: "TimeBreakdown") -> "TimeBreakdown":
        return TimeBreakdown(*(getattr(self, name) + getattr(other, name) for name in CAUSES))

    @property
    def owned(self) -> float:
        """Seconds during which a node owned the job, which is the time that is paid for."""
        return self.useful + self.redo + self.restore + self.upload

    @property
    def total(self) -> float:
        """Seconds of all causes."""
        return self.owned + self.node_loss + self.idle


CAUSES: Final = ("useful", "redo", "restore", "upload", "node_loss", "idle")


@frozen
class AttemptTime:
    """An attempt and its time; `node_loss` and `idle` are the time after it, until the next attempt."""

    attempt: AttemptSummary
    time: TimeBreakdown
    redone_steps: int


def attempt_times(record: JobRecord) -> Iterator[AttemptTime]:
    """Yield the time of each attempt in the record, oldest first."""
    attempts = record.attempts
    for number, (attempt, following) in enumerate(zip_longest(attempts, attempts[1:]), 1):
        redone = _redone_steps(attempt, record, attempts[number:])
        redo = attempt.useful_s * redone / attempt.steps if attempt.steps else 0.0
        time = TimeBreakdown(useful=attempt.useful_s - redo, redo=redo, restore=attempt.prepared_s)
        if attempt.ended:
            after = _between(attempt.started, attempt.ended) - attempt.prepared_s - attempt.useful_s
            time = evolve(time, upload=max(after, 0.0))
        if following:
            time = _with_gap(time, attempt, _between(attempt.started, following.started) - time.owned)
        yield AttemptTime(attempt, time, redone)


def job_time(record: JobRecord) -> TimeBreakdown:
    """Return all of a job's time in its record, from its submission until its end or now."""
    whole = TimeBreakdown()
    for one in attempt_times(record):
        whole += one.time
    if record.timestamps.submitted:
        first = record.attempts[0] if record.attempts else None
        if first is None or first.epoch == 1:
            until = first.started if first else datetime.now(UTC).isoformat()
            whole += TimeBreakdown(idle=max(_between(record.timestamps.submitted, until), 0.0))
    return whole


def _redone_steps(attempt: AttemptSummary, record: JobRecord, later: Sequence[AttemptSummary]) -> int:
    """Return the steps of *attempt* past the checkpoint from which the next attempt ran, or would run now."""
    reached = (attempt.resumed_step or 0) + attempt.steps
    for following in later:
        if following.prepared_s or following.useful_s:
            return min(max(reached - (following.resumed_step or 0), 0), attempt.steps)
    if record.state is State.COMPLETED or not (later or attempt.ended):  # it did the last step, or is still running
        return 0
    saved = record.checkpoint.step if record.checkpoint else None
    return min(max(reached - (saved or 0), 0), attempt.steps)


def _with_gap(time: TimeBreakdown, attempt: AttemptSummary, gap_s: float) -> TimeBreakdown:
    """Add the time between *attempt* and the next one, as node loss or idle time."""
    if attempt.outcome == VANISHED:
        return evolve(time, node_loss=max(gap_s, 0.0))
    return evolve(time, idle=max(gap_s, 0.0))


def _between(earlier: str, later: str) -> float:
    """Return the seconds from *earlier* to *later*; 0 if either is no time."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
