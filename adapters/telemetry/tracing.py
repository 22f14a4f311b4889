"""An observer that makes one trace of a job, over all its attempts and nodes.

The root span is the job; its children are the attempts, and theirs are phases and checkpoints. Times are by the wall
clock of the node that saw them, so if the clocks of two nodes differ, their spans are displaced by the difference.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from adapters.telemetry.spans import Span, SpanEvent, SpanRecorder, span_id, trace_id
from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.clock import Clock
from lifecycle.ports.observer import Observer
from lifecycle.states import FINAL, OWNED, Edge, State, Trigger

ENDED: Final = frozenset({"exited", "stopped", "killed"})  # events after which the workload no longer runs
SHOWN_AS_SPANS: Final = frozenset({"received", "input_loaded", "resumed", "running", "checkpoint"})
LINE_HEADER: Final = frozenset({"at", "epoch", "node", "event"})
VANISHED: Final = "vanished"


@define
class _TracedAttempt:
    """The current attempt, and the parts of its spans that are known so far."""

    trace: int
    summary: AttemptSummary
    phase: str
    since: datetime
    events: list[SpanEvent] = field(factory=list)
    snapshots: list[datetime | None] = field(factory=list)
    children: int = 0
    is_superseded: bool = False

    @property
    def span(self) -> int:
        return _attempt_span(self.trace, self.summary.epoch)


class Tracing:
    """The observer.

    Args:
        recorder: Takes the spans.
        clock: This node's clock.
        layout: Keys of the jobs; their prefix is part of a job's identity.
        bucket: The bucket's name, another part.
    """

    def __init__(self, recorder: SpanRecorder, clock: Clock, *, layout: KeyLayout, bucket: str) -> None:
        self._recorder = recorder
        self._clock = clock
        self._layout = layout
        self._bucket = bucket
        self._attempt: _TracedAttempt | None = None

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        if edge.trigger is Trigger.TAKE:
            self._begin(record)
        elif self._attempt:
            self._continue(self._attempt, edge, record)

    def wrote(self, record: JobRecord) -> None:
        """See `Observer.wrote`.; Does nothing."""

    def noted(self, line: Mapping[str, Any]) -> None:
        """See `Observer.noted`."""
        attempt, event = self._attempt, line["event"]
        if not attempt or (line["epoch"], line["node"]) != (attempt.summary.epoch, attempt.summary.node):
            return
        attributes = {name: value for name, value in line.items() if name not in LINE_HEADER}
        at = datetime.fromisoformat(line["at"])
        if event not in SHOWN_AS_SPANS:
            attempt.events.append(SpanEvent(event, at, attributes))
        if event == "checkpoint":
            self._child(
                attempt, event, at - timedelta(seconds=attributes["took_s"]), {**attributes, "outcome": "committed"}
            )
        elif event == "upload_failed":
            self._upload_failed(attempt, at, attributes)
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
            error = "the end of the attempt could not be recorded"
        self._next_phase(attempt, None, error=error)
        self._record_attempt(
            attempt.trace, summary, outcome, self._clock.now(), events=tuple(attempt.events), error=error
        )

    # ---- progress of the attempt ----

    def _begin(self, record: JobRecord) -> None:
        *before, summary = record.attempts
        began = datetime.fromisoformat(summary.started)
        self._attempt = attempt = _TracedAttempt(self._trace_of(record), summary, "preparing", began)
        if before and before[-1].outcome == VANISHED:
            vanished = before[-1]
            last_seen = datetime.fromisoformat(vanished.started) + timedelta(
                seconds=vanished.prepared_s + vanished.useful_s
            )
            error = "its node vanished; the span ends at its last heartbeat"
            self._record_attempt(attempt.trace, vanished, VANISHED, last_seen, error=error)

    def _continue(self, attempt: _TracedAttempt, edge: Edge, record: JobRecord) -> None:
        if edge.trigger is Trigger.START:
            self._next_phase(attempt, "running")
        self._follow_checkpoints(attempt, edge, record)
        if edge.destination not in OWNED:
            attempt.is_superseded = edge.trigger is Trigger.SUPERSEDE
            error = "superseded" if attempt.is_superseded else record.error
            self._next_phase(attempt, "publishing" if edge.trigger is Trigger.COMPLETE else None, error=error)
        if edge.destination in FINAL:
            self._record_root(attempt.trace, record)

    def _follow_checkpoints(self, attempt: _TracedAttempt, edge: Edge, record: JobRecord) -> None:
        now = self._clock.now()
        match edge.trigger:
            case Trigger.CHECKPOINT:  # one is uploading, one waits, and a newer one replaces the latter
                attempt.snapshots = [*filter(None, attempt.snapshots[:1]), now]
            case Trigger.COMMIT:
                del attempt.snapshots[:1]
            case Trigger.ABANDON:
                since = attempt.snapshots.pop(0) if attempt.snapshots else None
                if since:
                    self._child(attempt, "checkpoint", since, {"outcome": "nothing new"})
            case Trigger.COMPLETE if record.result and attempt.snapshots:  # the event log has no line for this one
                ref = record.result.manifest
                sizes = {"seq": ref.seq, "step": ref.step, "bytes": ref.bytes, "sent": ref.sent}
                self._child(attempt, "checkpoint", attempt.snapshots[-1] or now, {**sizes, "outcome": "result"})

    def _next_phase(self, attempt: _TracedAttempt, phase: str | None, *, error: str | None = None) -> None:
        """Record the current phase, if there is one, and start *phase*; None starts none."""
        if attempt.phase:
            self._child(attempt, attempt.phase, attempt.since, {}, error=error)
        attempt.phase, attempt.since = phase or "", self._clock.now()

    def _upload_failed(self, attempt: _TracedAttempt, at: datetime, attributes: Mapping[str, Any]) -> None:
        since = attempt.snapshots[0] if attempt.snapshots else None
        attempt.snapshots[:1] = [None]  # so that abandoning it is not recorded as another span
        self._child(attempt, "checkpoint", since or at, {**attributes, "outcome": "failed"}, error=attributes["error"])

    # ---- spans ----

    def _child(
        self,
        attempt: _TracedAttempt,
        name: str,
        since: datetime,
        attributes: Mapping[str, Any],
        *,
        error: str | None = None,
    ) -> None:
        attempt.children += 1
        epoch = attempt.summary.epoch
        own = span_id(attempt.trace, "attempt", str(epoch), str(attempt.children))
        named = {"holdfast.epoch": epoch, **_prefixed(attributes)}
        now = self._clock.now()
        self._recorder.record(Span(name, attempt.trace, own, attempt.span, since, now, named, error=error))

    def _record_attempt(
        self,
        trace: int,
        summary: AttemptSummary,
        outcome: str | None,
        end: datetime,
        *,
        events: tuple[SpanEvent, ...] = (),
        error: str | None = None,
    ) -> None:
        attributes = {
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
        own, start = _attempt_span(trace, summary.epoch), datetime.fromisoformat(summary.started)
        success = outcome == State.COMPLETED
        root = _root_span(trace)
        self._recorder.record(
            Span("attempt", trace, own, root, start, end, _prefixed(attributes), events, error, is_success=success)
        )

    def _record_root(self, trace: int, record: JobRecord) -> None:
        stamps, now = record.timestamps, self._clock.now()
        attributes = {
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
        own = _root_span(trace)
        self._recorder.record(
            Span("job", trace, own, None, start, end, _prefixed(attributes), error=error, is_success=success)
        )

    def _trace_of(self, record: JobRecord) -> int:
        return trace_id(self._bucket, self._layout.prefix, record.job, record.timestamps.submitted or "")


def _root_span(trace: int) -> int:
    return span_id(trace, "job")


def _attempt_span(trace: int, epoch: int) -> int:
    return span_id(trace, "attempt", str(epoch))


def _prefixed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"holdfast.{name}": value for name, value in attributes.items()}


if TYPE_CHECKING:

    def _conforms(tracing: Tracing) -> Observer:
        return tracing
