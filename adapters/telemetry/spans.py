"""Spans with ids that every node computes alike, so that a job is one trace although its nodes never communicate.

The id of a trace is a hash of the job's identity; the id of a span is a hash of that and of the span's own identity.
The SDK takes both from an IdGenerator (https://opentelemetry.io/docs/specs/otel/trace/sdk/#id-generators). A span is
recorded when it is over, with given times.
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
class SpanEvent:
    """An event within a span: its name, moment and attributes."""

    name: str
    at: datetime
    attributes: Mapping[str, Any]


@frozen
class Span:
    """A finished span.

    Attributes:
        name: One of a few names, so that spans can be grouped.
        trace: Id of the trace.
        id: Id of the span.
        parent: Id of the parent; None for the root.
        start: Start, by the wall clock of the node that saw it.
        end: End, likewise; replaced by *start* if it is earlier.
        attributes: JSON values; those that are None are omitted.
        events: Events within the span.
        error: Reason of the failure; None if it did not fail.
        is_success: The span is known to have succeeded.
    """

    name: str
    trace: int
    id: int
    parent: int | None
    start: datetime
    end: datetime
    attributes: Mapping[str, Any] = field(factory=dict)
    events: tuple[SpanEvent, ...] = ()
    error: str | None = None
    is_success: bool = False


class SpanRecorder:
    """Passes spans to a span processor of the SDK. Thread-safe, and blocks only if the processor does.

    Args:
        processor: Sends the spans to a collector.
        resource: Attributes of this process; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence.
    """

    def __init__(self, processor: SpanProcessor, resource: Mapping[str, str]) -> None:
        self._ids = _PresetIds()
        self._lock = Lock()
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # a ratio would keep parts of a trace only
            resource=Resource(dict(resource)).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,  # the processor's owner shuts it down, with a time limit
            id_generator=self._ids,
        )
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("holdfast")

    def record(self, span: Span) -> None:
        """Pass *span* to the processor."""
        start = _ns(span.start)
        with self._lock:
            self._ids.trace, self._ids.span = span.trace, span.id
            recorded = self._tracer.start_span(
                span.name,
                context=_context(span.trace, span.parent),
                attributes=_attributes(span.attributes),
                start_time=start,
            )
        for event in span.events:
            recorded.add_event(event.name, _attributes(event.attributes), _ns(event.at))
        if span.error is not None:
            recorded.set_status(StatusCode.ERROR, span.error)
        elif span.is_success:
            recorded.set_status(StatusCode.OK)
        recorded.end(max(_ns(span.end), start))


class _PresetIds(IdGenerator):
    """Returns ids that were set before; protected by `SpanRecorder`'s lock."""

    trace = 0
    span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


def trace_id(*identity: str) -> int:
    """Return the id of the trace with that identity: never 0, which the standard forbids."""
    return _hash(TRACE_BYTES, identity)


def span_id(trace: int, *identity: str) -> int:
    """Return the id of the span with that identity within *trace*: never 0."""
    return _hash(SPAN_BYTES, (f"{trace:032x}", *identity))


def _hash(size: int, words: tuple[str, ...]) -> int:
    text = "".join(
        f"{len(word)}:{word}" for word in words
    )  # with lengths, so that two lists of words never give the same text
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest()) or 1


def _context(trace: int, parent: int | None) -> Any:
    if parent is None:
        return set_span_in_context(NonRecordingSpan(SpanContext(0, 0, is_remote=False)))
    context = SpanContext(trace, parent, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(context))


def _ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _attributes(values: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    known = {name: value for name, value in values.items() if value is not None}
    return {name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in known.items()}
