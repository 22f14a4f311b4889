"""Time accounting: a job's useful time and its losses by cause, computed from its record alone.

Useful is the work that is part of the job's result or, while the job is not over, that it still has: a later attempt
resumed after it, the last checkpoint holds it, or the running attempt is doing it. `show`, `report` and the dashboard
use this one definition; docs/operations.md states it for users.

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
WITHOUT_RESULT: Final = frozenset({State.FAILED, State.CANCELLED})


@frozen
class TimeBreakdown:
    """Seconds by cause.

    Attributes:
        useful: The workload ran, and its work counts.
        redo: The workload ran, and its work was lost: no later attempt resumed after it, and no checkpoint holds it.
        no_result: The workload ran, and the job failed or was cancelled.
        restore: Loading the input or a checkpoint, before the workload ran.
        upload: Waiting for the last upload and the last writes, after the workload ran.
        node_loss: From a node's last sign of life until another node took over.
        idle: Waiting in the queue: at first, and after a pause, a release or a failure.
    """

    useful: float = 0.0
    redo: float = 0.0
    no_result: float = 0.0
    restore: float = 0.0
    upload: float = 0.0
    node_loss: float = 0.0
    idle: float = 0.0

    def __add__(self, other: "TimeBreakdown") -> "TimeBreakdown":
        return TimeBreakdown(*(getattr(self, name) + getattr(other, name) for name in CAUSES))

    @property
    def owned(self) -> float:
        """Seconds during which a node owned the job, which is the time that is paid for."""
        return self.useful + self.redo + self.no_result + self.restore + self.upload

    @property
    def waited(self) -> float:
        """Seconds during which no living node owned the job."""
        return self.node_loss + self.idle

    @property
    def total(self) -> float:
        """Seconds of all causes."""
        return self.owned + self.waited

    @property
    def useful_share(self) -> float | None:
        """Share of node time that was useful; None if no node has owned the job yet."""
        return self.useful / self.owned if self.owned else None


NODE_TIME: Final = ("useful", "redo", "no_result", "restore", "upload")
"""The causes that divide the time of nodes."""
CAUSES: Final = (*NODE_TIME, "node_loss", "idle")
LABELS: Final = {
    "useful": "useful",
    "redo": "lost",
    "no_result": "no result",
    "restore": "loading",
    "upload": "saving",
    "node_loss": "node lost",
    "idle": "in queue",
}
"""The causes, in words for people."""


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
        points = _resume_points(attempt, record, attempts[number:])
        lost = _lost_s(attempt, points)
        time = TimeBreakdown(useful=attempt.useful_s - lost, redo=lost, restore=attempt.prepared_s)
        if record.state in WITHOUT_RESULT:
            time = evolve(time, useful=0.0, no_result=time.useful)
        if attempt.ended:
            after = _between(attempt.started, attempt.ended) - attempt.prepared_s - attempt.useful_s
            time = evolve(time, upload=max(after, 0.0))
        if following:
            time = _with_gap(time, attempt, _between(attempt.started, following.started) - time.owned)
        yield AttemptTime(attempt, time, _redone_steps(attempt, points))


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


@frozen
class _ResumePoint:
    """A point from which a job went on, or would go on now: its steps, and the computing time before it if known."""

    step: int | None
    computed_s: float | None


def _resume_points(
    attempt: AttemptSummary, record: JobRecord, later: Sequence[AttemptSummary]
) -> Sequence[_ResumePoint]:
    """Return the points from which the job went on after *attempt*: what lies beyond any of them is lost."""
    points = [_ResumePoint(one.resumed_step, one.resumed_s) for one in later if one.prepared_s or one.useful_s]
    newest = later[-1] if later else attempt
    goes_on = newest.ended is None and newest.outcome is None
    if record.state is State.COMPLETED or (goes_on and (points or not later)):
        return points
    saved = record.checkpoint
    return [*points, _ResumePoint(saved.step, saved.computed_s) if saved else _ResumePoint(None, 0.0)]


def _lost_s(attempt: AttemptSummary, points: Sequence[_ResumePoint]) -> float:
    """Return the seconds for which the workload ran beyond the earliest of *points*.

    Records of older versions lack the computing time; then the share of the steps beyond it is taken, or else the
    attempt is lost if it left no checkpoint.
    """
    if not points:
        return 0.0
    known = [point.computed_s for point in points if point.computed_s is not None]
    if attempt.resumed_s is not None and len(known) == len(points):
        return min(max(attempt.resumed_s + attempt.useful_s - min(known), 0.0), attempt.useful_s)
    if attempt.steps:
        return attempt.useful_s * _redone_steps(attempt, points) / attempt.steps
    return 0.0 if attempt.commits else attempt.useful_s


def _redone_steps(attempt: AttemptSummary, points: Sequence[_ResumePoint]) -> int:
    """Return the steps of *attempt* beyond the earliest of *points*."""
    if not points:
        return 0
    reached = (attempt.resumed_step or 0) + attempt.steps
    return min(max(reached - min(point.step or 0 for point in points), 0), attempt.steps)


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
