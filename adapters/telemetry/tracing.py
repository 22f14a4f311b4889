"""Traces: an observer that makes one trace of a job, over all its attempts and nodes.

The root is the job, below it stand its attempts, below each of them its phases and checkpoints. Times are by the wall
clock of the node that saw them: two nodes whose clocks differ draw their spans that much apart.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from adapters.telemetry.spans import Note, Span, Spans, span_id, trace_id
from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.clock import Clock
from lifecycle.ports.observer import Observer
from lifecycle.states import FINAL, OWNED, Edge, State, Trigger

ENDED: Final = frozenset({"exited", "stopped", "killed"})  # the workload is no more
PHASES: Final = frozenset({"received", "input_loaded", "resumed", "running", "checkpoint"})  # spans say it already
OF_A_LINE: Final = frozenset({"at", "epoch", "node", "event"})
VANISHED: Final = "vanished"


@define
class _Attempt:
    """The attempt being made."""

    trace: int
    summary: AttemptSummary
    phase: str
    since: datetime
    notes: list[Note] = field(factory=list)
    snapshots: list[datetime | None] = field(factory=list)
    children: int = 0
    is_superseded: bool = False

    @property
    def span(self) -> int:
        return _of_attempt(self.trace, self.summary.epoch)


class Tracing:
    """See `lifecycle.ports.observer.Observer`.

    Args:
        spans: Where they go.
        clock: This node's.
        layout: Where the jobs lie.
        bucket: The bucket's name.
    """

    def __init__(self, spans: Spans, clock: Clock, *, layout: KeyLayout, bucket: str) -> None:
        self._spans = spans
        self._clock = clock
        self._layout = layout
        self._bucket = bucket
        self._attempt: _Attempt | None = None

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        if edge.trigger is Trigger.TAKE:
            self._begin(record)
        elif self._attempt:
            self._go_on(self._attempt, edge, record)

    def wrote(self, record: JobRecord) -> None:
        """See `Observer.wrote`.; nothing is made of it."""

    def noted(self, line: Mapping[str, Any]) -> None:
        """See `Observer.noted`."""
        attempt, event = self._attempt, line["event"]
        if not attempt or (line["epoch"], line["node"]) != (attempt.summary.epoch, attempt.summary.node):
            return
        facts = {name: value for name, value in line.items() if name not in OF_A_LINE}
        at = datetime.fromisoformat(line["at"])
        if event not in PHASES:
            attempt.notes.append(Note(event, at, facts))
        if event == "checkpoint":
            self._child(attempt, event, at - timedelta(seconds=facts["took_s"]), {**facts, "outcome": "committed"})
        elif event == "upload_failed":
            self._failed(attempt, at, facts)
        elif event in ENDED and attempt.phase == "running":
            self._next_phase(attempt, "ending")

    def left(self, record: JobRecord) -> None:
        """See `Observer.left`."""
        attempt, self._attempt = self._attempt, None
        if not attempt:
            return
        summary, error = record.attempts[-1], record.error
        outcome = summary.outcome
        if attempt.is_superseded:
            outcome, error = State.SUPERSEDED.value, "another epoch owns the job"
        elif outcome is None:
            error = "its end could not be recorded"
        self._next_phase(attempt, None, error=error)
        self._give_attempt(attempt.trace, summary, outcome, self._clock.now(), notes=tuple(attempt.notes), error=error)

    # ---- the way of an attempt ----

    def _begin(self, record: JobRecord) -> None:
        *before, summary = record.attempts
        began = datetime.fromisoformat(summary.started)
        self._attempt = attempt = _Attempt(self._trace_of(record), summary, "preparing", began)
        if before and before[-1].outcome == VANISHED:
            gone = before[-1]
            seen = datetime.fromisoformat(gone.started) + timedelta(seconds=gone.prepared_s + gone.useful_s)
            error = "its node vanished; the span ends where its last heartbeat left it"
            self._give_attempt(attempt.trace, gone, VANISHED, seen, error=error)

    def _go_on(self, attempt: _Attempt, edge: Edge, record: JobRecord) -> None:
        now = self._clock.now()
        match edge.trigger:
            case Trigger.START:
                self._next_phase(attempt, "running")
            case Trigger.CHECKPOINT:  # one is being uploaded, one waits; a newer one replaces that
                attempt.snapshots = [*filter(None, attempt.snapshots[:1]), now]
            case Trigger.COMMIT:
                del attempt.snapshots[:1]
            case Trigger.ABANDON:
                since = attempt.snapshots.pop(0) if attempt.snapshots else None
                if since:
                    self._child(attempt, "checkpoint", since, {"outcome": "nothing new"})
            case Trigger.COMPLETE if record.result and attempt.snapshots:  # no line of the log tells of this one
                ref = record.result.manifest
                facts = {"seq": ref.seq, "step": ref.step, "bytes": ref.bytes, "sent": ref.sent, "outcome": "result"}
                self._child(attempt, "checkpoint", attempt.snapshots[-1] or now, facts)
        if edge.destination not in OWNED:
            attempt.is_superseded = edge.trigger is Trigger.SUPERSEDE
            error = "superseded" if attempt.is_superseded else record.error
            self._next_phase(attempt, "publishing" if edge.trigger is Trigger.COMPLETE else None, error=error)
        if edge.destination in FINAL:
            self._give_root(attempt.trace, record)

    def _next_phase(self, attempt: _Attempt, phase: str | None, *, error: str | None = None) -> None:
        """End the phase, if there is one, and begin *phase*, if that is one."""
        if attempt.phase:
            self._child(attempt, attempt.phase, attempt.since, {}, error=error)
        attempt.phase, attempt.since = phase or "", self._clock.now()

    def _failed(self, attempt: _Attempt, at: datetime, facts: Mapping[str, Any]) -> None:
        since = attempt.snapshots[0] if attempt.snapshots else None
        attempt.snapshots[:1] = [None]  # so that giving it up is not told as another span
        self._child(attempt, "checkpoint", since or at, {**facts, "outcome": "failed"}, error=facts["error"])

    # ---- spans ----

    def _child(
        self, attempt: _Attempt, name: str, since: datetime, facts: Mapping[str, Any], *, error: str | None = None
    ) -> None:
        attempt.children += 1
        epoch = attempt.summary.epoch
        own = span_id(attempt.trace, "attempt", str(epoch), str(attempt.children))
        named = {"holdfast.epoch": epoch, **_ours(facts)}
        now = self._clock.now()
        self._spans.give(Span(name, attempt.trace, own, attempt.span, since, now, named, error=error))

    def _give_attempt(
        self,
        trace: int,
        summary: AttemptSummary,
        outcome: str | None,
        end: datetime,
        *,
        notes: tuple[Note, ...] = (),
        error: str | None = None,
    ) -> None:
        facts = {
            "epoch": summary.epoch,
            "node": summary.node,
            "node.kind": summary.kind or None,
            "outcome": outcome,
            "resumed_step": summary.resumed_step,
            "prepared_s": summary.prepared_s,
            "useful_s": summary.useful_s,
            "steps": summary.steps,
            "commits": summary.commits,
        }
        own, start = _of_attempt(trace, summary.epoch), datetime.fromisoformat(summary.started)
        success = outcome == State.COMPLETED
        root = _of_root(trace)
        self._spans.give(Span("attempt", trace, own, root, start, end, _ours(facts), notes, error, is_success=success))

    def _give_root(self, trace: int, record: JobRecord) -> None:
        stamps, now = record.timestamps, self._clock.now()
        facts = {
            "job": record.job,
            "workload": record.workload,
            "bucket": self._bucket or None,
            "prefix": self._layout.prefix or None,
            "state": record.state.value,
            "epoch": record.epoch,
            "ran_s": record.ran_s,
            **{f"interruptions.{cause}": count for cause, count in record.interruptions.items()},
            **{f"label.{name}": value for name, value in record.labels.items()},
        }
        start = datetime.fromisoformat(stamps.submitted) if stamps.submitted else now
        end = datetime.fromisoformat(stamps.finished) if stamps.finished else now
        error = (record.error or "failed") if record.state is State.FAILED else None
        success = record.state is State.COMPLETED
        own = _of_root(trace)
        self._spans.give(Span("job", trace, own, None, start, end, _ours(facts), error=error, is_success=success))

    def _trace_of(self, record: JobRecord) -> int:
        return trace_id(self._bucket, self._layout.prefix, record.job, record.timestamps.submitted or "")


def _of_root(trace: int) -> int:
    return span_id(trace, "job")


def _of_attempt(trace: int, epoch: int) -> int:
    return span_id(trace, "attempt", str(epoch))


def _ours(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"holdfast.{name}": value for name, value in facts.items()}


if TYPE_CHECKING:

    def _conforms(tracing: Tracing) -> Observer:
        return tracing
