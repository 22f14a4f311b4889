"""Metrics of one worker, for Prometheus: an Observer that counts, and a small server that shows the counts.

Ages are computed when somebody asks. Labels are bounded, but for the job of the current attempt, which goes with it.
"""

import re
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

SAVING_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
KINDS: Final = 40  # of errors; a server could make up any number of them
OTHER: Final = "other"
UNRECORDED: Final = "unrecorded"
disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, that says when this process began to count

OUTCOMES: Final = (*sorted(state.value for state in State if state not in OWNED | {State.QUEUED}), UNRECORDED)
CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,63}")


@frozen
class Current:
    """The attempt that runs. Moments are `Clock.monotonic()`.

    Attributes:
        record: As last written.
        state: As last entered.
        written_at: When the record was.
        saved_at: When a checkpoint was last committed or, before that, the workload started; None before that too.
    """

    record: JobRecord
    state: State
    written_at: float
    saved_at: float | None = None


class Metrics(Collector):
    """Counts what a worker does. Thread-safe.

    Args:
        clock: For ages.
        node: Who we are.
    """

    def __init__(self, clock: Clock, node: str) -> None:
        self._clock = clock
        self._lock = Lock()
        self._current: Current | None = None
        self.registry = registry = CollectorRegistry()
        named = {measure.name: measure for measure in WORKER}

        def counter(name: str) -> Counter:
            return Counter(name, named[name].meaning, named[name].labels, registry=registry)

        build = named["holdfast_build_info"]
        Gauge(build.name, build.meaning, build.labels, registry=registry).labels(__version__, node).set(1)
        self._transitions = counter("holdfast_transitions_total")
        self._attempts = counter("holdfast_attempts_total")
        for outcome in OUTCOMES:  # at 0, so that the first failure is an increase
            self._attempts.labels(outcome)
        self._events = counter("holdfast_attempt_events_total")
        self._writes = counter("holdfast_record_writes_total")
        self._checkpoints = counter("holdfast_checkpoints_total")
        self._sent = counter("holdfast_checkpoint_sent_bytes_total")
        took = named["holdfast_checkpoint_seconds"]
        self._took = Histogram(took.name, took.meaning, buckets=SAVING_S, registry=registry)
        self.retries = RetryCounter(registry)
        registry.register(self)
        ProcessCollector(registry=registry)

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        self._transitions.labels(edge.source.value, edge.trigger.value, edge.destination.value).inc()
        now = self._clock.monotonic()
        with self._lock:
            if edge.trigger is Trigger.TAKE or self._current is None:
                self._current = Current(record, edge.destination, now)
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
            was, self._current = self._current, None
        if was and was.state is State.SUPERSEDED:
            outcome = State.SUPERSEDED.value
        else:
            outcome = UNRECORDED if record.state in OWNED else record.state.value
        self._attempts.labels(outcome).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The current attempt, as Prometheus' client wants it; no values while there is none."""
        with self._lock:
            current = self._current
        now, today = self._clock.monotonic(), self._clock.now()
        values = _values(current, now, today) if current else {}
        yield from families((m for m in WORKER if m.name.startswith("holdfast_attempt_") and m.kind == "gauge"), values)


class RetryCounter:
    """Counts calls that are made again; a listener of `RetryListeners`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        measure = next(each for each in WORKER if each.name == "holdfast_retries_total")
        self._counter = Counter(measure.name, measure.meaning, measure.labels, registry=registry)
        self._kinds: set[str] = set()

    def __call__(self, call: str, error: BaseException | None) -> None:
        """See `RetryListeners`."""
        kind = kind_of(error)
        if len(self._kinds) >= KINDS and kind not in self._kinds:
            kind = OTHER
        self._kinds.add(kind)
        self._counter.labels(call, kind).inc()


def kind_of(error: BaseException | None) -> str:
    """An error in a word: the service's code, else the class of what was met, else of what it was made into."""
    if error is None:
        return NOT_ACCEPTED
    cause = error.__cause__ or error
    answer = getattr(cause, "response", None)
    if isinstance(answer, dict):
        code = str(answer.get("Error", {}).get("Code", ""))
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if CODE.fullmatch(code):
            return code
        if isinstance(status, int):
            return f"HTTP{status}"
    return type(cause).__name__


Values = Mapping[str, Iterable[tuple[tuple[str, ...], float]]]
"""By the name of the metric: the values of its labels, and its own."""


def families(measures: Iterable[MetricDefinition], values: Values) -> Iterator[Any]:
    """*measures* with their *values*, as Prometheus' client wants them."""
    for measure in measures:
        kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
        family = kind(measure.name, measure.meaning, labels=measure.labels)
        for labels, value in values.get(measure.name, ()):
            family.add_metric(labels, value)
        yield family


def serve(registry: CollectorRegistry, *, host: str, port: int, remedy: str) -> int:
    """Show *registry* at `http://host:port/metrics` for as long as this process lives.

    Args:
        registry: What to show.
        host: The address to listen at.
        port: The same; 0: any that is free.
        remedy: How to choose another, for the message.

    Returns:
        The port.

    Raises:
        ConfigError: Nobody can listen there.
    """
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"metrics cannot be shown at {host}, port {port}: {why}; {remedy}") from error
    return int(server.server_port)


def _values(current: Current, now: float, today: datetime) -> Values:
    record, lone = current.record, ()
    values: dict[str, list[tuple[tuple[str, ...], float]]] = {
        "info": [((record.job, str(record.epoch), record.workload), 1)],
        "state": [((state.value,), float(state is current.state)) for state in State if state in OWNED],
        "lease_seconds": [(lone, record.lease_s)],
        "lease_age_seconds": [(lone, now - current.written_at)],
        "backlog_bytes": [(lone, record.backlog.bytes if record.backlog else 0)],
        "backlog_age_seconds": [(lone, age_s(record.backlog.since, today) if record.backlog else 0)],
    }
    if current.saved_at is not None:
        values["checkpoint_age_seconds"] = [(lone, now - current.saved_at)]
    if record.checkpoint:
        values["checkpoint_bytes"] = [(lone, record.checkpoint.bytes)]
    if record.progress.done is not None:
        values["steps_done"] = [(lone, record.progress.done)]
    if record.progress.total is not None:
        values["steps"] = [(lone, record.progress.total)]
    return {f"holdfast_attempt_{name}": samples for name, samples in values.items()}


def age_s(moment: str | None, now: datetime) -> float:
    """Seconds from *moment*, as the record has it, to *now*; 0 for one that cannot be read, or lies ahead."""
    try:
        return max((now - datetime.fromisoformat(moment or "")).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


if TYPE_CHECKING:

    def _conforms(metrics: Metrics) -> Observer:
        return metrics
