"""Spans whose ids every node works out alike, so that a job is one trace though its nodes never talk.

A trace's id is a hash of the job's identity, a span's of that and of what it is; the SDK takes both from an IdGenerator
(opentelemetry.io, Tracing SDK, "Id Generators"). Each span is made when it is over, with its times given.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from threading import Lock
from typing import Any, Final

from attrs import field, frozen
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@frozen
class Note:
    """Something that happened within a span: a name, a moment, and facts."""

    name: str
    at: datetime
    facts: Mapping[str, Any]


@frozen
class Span:
    """A span that is over.

    Attributes:
        name: One of few, so that they can be grouped.
        trace: The trace's id.
        id: Its own.
        parent: Its parent's; None for the root.
        start: When it began, by the wall clock of whoever saw that.
        end: When it ended, likewise; one before *start* is taken for *start*.
        facts: JSON values; what is None is left out.
        notes: What happened within it.
        error: Why it failed; None if it did not.
        is_success: Whether it is known to have reached what it was for.
    """

    name: str
    trace: int
    id: int
    parent: int | None
    start: datetime
    end: datetime
    facts: Mapping[str, Any] = field(factory=dict)
    notes: tuple[Note, ...] = ()
    error: str | None = None
    is_success: bool = False


class Spans:
    """Gives spans to a processor of the SDK. Never waits if that does not; thread-safe.

    Args:
        processor: What takes them to a collector.
        resource: What every span says of this process; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME go before it.
    """

    def __init__(self, processor: SpanProcessor, resource: Mapping[str, str]) -> None:
        self._ids = _GivenIds()
        self._lock = Lock()
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # a ratio would keep half of a trace: its root has no parent to ask
            resource=Resource(dict(resource)).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,  # whoever made the processor ends it, within a time limit
            id_generator=self._ids,
        )
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("holdfast")

    def give(self, span: Span) -> None:
        """Make *span*, and hand it to the processor."""
        start = _ns(span.start)
        with self._lock:
            self._ids.trace, self._ids.span = span.trace, span.id
            made = self._tracer.start_span(
                span.name, context=_under(span.trace, span.parent), attributes=_plain(span.facts), start_time=start
            )
        for note in span.notes:
            made.add_event(note.name, _plain(note.facts), _ns(note.at))
        if span.error is not None:
            made.set_status(StatusCode.ERROR, span.error)
        elif span.is_success:
            made.set_status(StatusCode.OK)
        made.end(max(_ns(span.end), start))


class _GivenIds(IdGenerator):
    """Says the ids that it was told; the lock is `Spans`'."""

    trace = 0
    span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


def trace_id(*identity: str) -> int:
    """The id of the trace of what *identity* names: never 0, which the standard forbids."""
    return _hash(TRACE_BYTES, identity)


def span_id(trace: int, *identity: str) -> int:
    """The id of the span within *trace* that *identity* names: never 0."""
    return _hash(SPAN_BYTES, (f"{trace:032x}", *identity))


def _hash(size: int, words: tuple[str, ...]) -> int:
    text = "".join(f"{len(word)}:{word}" for word in words)  # lengths, so that no two lists of words are one text
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest()) or 1


def _under(trace: int, parent: int | None) -> Any:
    if parent is None:
        return set_span_in_context(NonRecordingSpan(SpanContext(0, 0, is_remote=False)))
    context = SpanContext(trace, parent, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(context))


def _ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _plain(facts: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    known = {name: value for name, value in facts.items() if value is not None}
    return {name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in known.items()}
