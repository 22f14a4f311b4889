"""Prometheus metrics of one worker: an observer that counts, and a small HTTP server.

Ages are computed at each scrape. The number of label values is bounded, except for the job of the current attempt,
whose series disappears when the attempt ends. https://prometheus.io/docs/practices/naming/
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from adapters.retry_listeners import NOT_ACCEPTED
from adapters.telemetry.metric_definitions import WORKER, MetricDefinition
from lifecycle import __version__
from lifecycle.errors import ConfigError
from lifecycle.job_record import JobRecord
from lifecycle.ports.clock import Clock
from lifecycle.ports.observer import Observer
from lifecycle.states import OWNED, Edge, State, Trigger
from lifecycle.structured_log import StructuredLogger

CHECKPOINT_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
MAX_ERROR_LABELS: Final = 40  # a server could invent any number of error codes
OTHER: Final = "other"  # label of all errors beyond these
UNRECORDED: Final = "unrecorded"  # outcome of an attempt whose final write may not have landed
disable_created_metrics()  # type: ignore[no-untyped-call] # no second series per counter with its creation time

ATTEMPT_GAUGES: Final = tuple(
    each for each in WORKER if each.name.startswith("holdfast_attempt_") and each.kind == "gauge"
)
OUTCOMES: Final = (*sorted(state.value for state in State if state not in OWNED | {State.QUEUED}), UNRECORDED)
ERROR_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,63}")

log = StructuredLogger("holdfast.metrics")


@frozen
class CurrentAttempt:
    """The running attempt. Moments are `Clock.monotonic()`.

    Attributes:
        record: The record as last written.
        state: The state last entered.
        written_at: Moment of that write.
        saved_at: Moment of the last commit or, before the first, of the workload's start; None before that.
    """

    record: JobRecord
    state: State
    written_at: float
    saved_at: float | None = None


class Metrics(Collector):
    """Metrics of what a worker does. Thread-safe.

    Args:
        clock: Used for ages.
        node: The node's name.
    """

    def __init__(self, clock: Clock, node: str) -> None:
        self._clock = clock
        self._lock = Lock()
        self._current: CurrentAttempt | None = None
        self.registry = registry = CollectorRegistry()
        definitions = {definition.name: definition for definition in WORKER}

        def counter(name: str) -> Counter:
            return Counter(name, definitions[name].meaning, definitions[name].labels, registry=registry)

        build = definitions["holdfast_build_info"]
        Gauge(build.name, build.meaning, build.labels, registry=registry).labels(__version__, node).set(1)
        self._transitions = counter("holdfast_transitions_total")
        self._attempts = counter("holdfast_attempts_total")
        for outcome in OUTCOMES:  # start at 0, so that the first failure is an increase
            self._attempts.labels(outcome)
        self._events = counter("holdfast_attempt_events_total")
        self._writes = counter("holdfast_record_writes_total")
        self._checkpoints = counter("holdfast_checkpoints_total")
        self._sent = counter("holdfast_checkpoint_sent_bytes_total")
        took = definitions["holdfast_checkpoint_seconds"]
        self._took = Histogram(took.name, took.meaning, buckets=CHECKPOINT_BUCKETS_S, registry=registry)
        self.retries = RetryCounter(registry)
        registry.register(self)
        ProcessCollector(registry=registry)

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        self._transitions.labels(edge.source.value, edge.trigger.value, edge.destination.value).inc()
        now = self._clock.monotonic()
        with self._lock:
            if edge.trigger is Trigger.TAKE or self._current is None:
                self._current = CurrentAttempt(record, edge.destination, now)
            saved_at = now if edge.trigger is Trigger.START else self._current.saved_at
            self._current = evolve(self._current, state=edge.destination, saved_at=saved_at)

    def wrote(self, record: JobRecord) -> None:
        """See `Observer.wrote`."""
        self._writes.inc()
        now = self._clock.monotonic()
        with self._lock:
            if self._current:
                is_saved = record.checkpoint and record.checkpoint != self._current.record.checkpoint
                saved_at = now if is_saved else self._current.saved_at
                self._current = evolve(self._current, record=record, written_at=now, saved_at=saved_at)

    def noted(self, line: Mapping[str, Any]) -> None:
        """See `Observer.noted`."""
        self._events.labels(line["event"]).inc()
        if line["event"] == "checkpoint":
            self._checkpoints.inc()
            self._sent.inc(line["sent"])
            self._took.observe(line["took_s"])

    def left(self, record: JobRecord) -> None:
        """See `Observer.left`."""
        with self._lock:
            last, self._current = self._current, None
        if last and last.state is State.SUPERSEDED:
            outcome = State.SUPERSEDED.value
        else:
            outcome = UNRECORDED if record.state in OWNED else record.state.value
        self._attempts.labels(outcome).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges of the current attempt, in the Prometheus client's form; without values if there is none."""
        with self._lock:
            current = self._current
        now, today = self._clock.monotonic(), self._clock.now()
        values = _values(current, now, today) if current else {}
        yield from families(ATTEMPT_GAUGES, values)


class RetryCounter:
    """A listener of `RetryListeners` that counts retries."""

    def __init__(self, registry: CollectorRegistry) -> None:
        definition = next(each for each in WORKER if each.name == "holdfast_retries_total")
        self._counter = Counter(definition.name, definition.meaning, definition.labels, registry=registry)
        self._error_labels: set[str] = set()

    def __call__(self, call: str, error: BaseException | None) -> None:
        """Count a retry of *call* after *error*; see `retry_listeners.Listener`."""
        label = error_label(error)
        if len(self._error_labels) >= MAX_ERROR_LABELS and label not in self._error_labels:
            label = OTHER
        self._error_labels.add(label)
        self._counter.labels(call, label).inc()


def error_label(error: BaseException | None) -> str:
    """Return a label for *error*: the service's code, or the HTTP status, or the class of the original error."""
    if error is None:
        return NOT_ACCEPTED
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    if isinstance(response, dict):
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if ERROR_CODE.fullmatch(code):
            return code
        if isinstance(status, int):
            return f"HTTP{status}"
    return type(cause).__name__


Values = Mapping[str, Iterable[tuple[tuple[str, ...], float]]]
"""Samples by metric: the values of the labels, and the value."""


def families(definitions: Iterable[MetricDefinition], values: Values) -> Iterator[Any]:
    """Yield a metric family of the Prometheus client for each of *definitions*, with its *values*."""
    for definition in definitions:
        kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
        family = kind(definition.name, definition.meaning, labels=definition.labels)
        for labels, value in values.get(definition.name, ()):
            family.add_metric(labels, value)
        yield family


def serve(registry: CollectorRegistry, *, host: str, port: int, remedy: str) -> int:
    """Serve *registry* at `http://HOST:PORT/metrics` until the process exits.

    Args:
        registry: The metrics.
        host: Address to listen on.
        port: Port to listen on; 0: any free port.
        remedy: How to choose another port, for the error message.

    Returns:
        The port.

    Raises:
        ConfigError: The address or port cannot be listened on.
    """
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"metrics cannot be served at {host}, port {port}: {reason}; {remedy}") from error
    server.handle_error = _log_request_error  # type: ignore[method-assign] # socketserver prints a traceback to stderr
    return int(server.server_port)


def _log_request_error(request: object, client_address: object) -> None:  # noqa: ARG001 - socketserver's signature
    """Log the error of a scrape that is being handled, such as a connection that the scraper has closed."""
    error = sys.exc_info()[1]
    log.info("scrape.failed", error=f"{type(error).__name__}: {error}", client=str(client_address))


def _values(current: CurrentAttempt, now: float, today: datetime) -> Values:
    record, unlabelled = current.record, ()
    values: dict[str, list[tuple[tuple[str, ...], float]]] = {
        "info": [((record.job, str(record.epoch), record.workload), 1)],
        "state": [((state.value,), float(state is current.state)) for state in State if state in OWNED],
        "lease_seconds": [(unlabelled, record.lease_s)],
        "lease_age_seconds": [(unlabelled, now - current.written_at)],
        "backlog_bytes": [(unlabelled, record.backlog.bytes if record.backlog else 0)],
        "backlog_age_seconds": [(unlabelled, age_s(record.backlog.since, today) if record.backlog else 0)],
    }
    if current.saved_at is not None:
        values["checkpoint_age_seconds"] = [(unlabelled, now - current.saved_at)]
    if record.checkpoint:
        values["checkpoint_bytes"] = [(unlabelled, record.checkpoint.bytes)]
    if record.progress.done is not None:
        values["steps_done"] = [(unlabelled, record.progress.done)]
    if record.progress.total is not None:
        values["steps"] = [(unlabelled, record.progress.total)]
    return {f"holdfast_attempt_{name}": samples for name, samples in values.items()}


def age_s(moment: str | None, now: datetime) -> float:
    """Return the seconds from *moment*, in the record's form, to *now*; 0 if it is malformed or in the future."""
    try:
        return max((now - datetime.fromisoformat(moment or "")).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


if TYPE_CHECKING:

    def _conforms(metrics: Metrics) -> Observer:
        return metrics
