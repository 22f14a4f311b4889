"""A job is one trace, over all its attempts and nodes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultInjection, FaultyNode, unless_dead

from adapters.telemetry.spans import SpanRecorder, span_id, trace_id
from adapters.telemetry.tracing import Tracing
from lifecycle.attempt.worker import Worker
from lifecycle.errors import RetryableError

START_NS = 1_893_456_000 * 10**9  # the virtual clock's start


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(cluster: Cluster, exporter: InMemorySpanExporter) -> Callable[[], Tracing]:
    """Return a function that creates the observer of another node; all use one exporter."""

    def make() -> Tracing:
        recorder = SpanRecorder(SimpleSpanProcessor(exporter), {"service.name": "holdfast"})
        return Tracing(recorder, cluster.clock, layout=LAYOUT, bucket="")

    return make


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    found = [span for span in exporter.get_finished_spans() if span.name == name]
    return sorted(found, key=lambda span: span.start_time or 0)


def seconds(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - START_NS) / 1e9, (span.end_time - START_NS) / 1e9


def fact(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(f"holdfast.{name}")


def ids(span: ReadableSpan) -> tuple[int, int | None]:
    assert span.context is not None
    return span.context.span_id, span.parent.span_id if span.parent else None


def one_trace(exporter: InMemorySpanExporter) -> None:
    """Check that all spans belong to one trace, that ids are unique and that every parent exists."""
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    own = [ids(span)[0] for span in spans]
    assert len(own) == len(set(own))
    assert {ids(span)[1] for span in spans} <= {None, *own}
    assert [span.name for span in spans if span.parent is None] == ["job"]


def start(cluster: Cluster, worker: Worker) -> None:
    cluster.clock.start_thread(unless_dead(worker.run), name="worker")


def ports_of(node: FaultyNode, cluster: Cluster) -> dict[str, Any]:
    """Return the arguments of a worker on *node*."""
    return {"store": node.around(cluster.memory), "queue": node.around(cluster.queue), "clock": node.clock()}


def test_three_attempts_on_two_nodes_are_one_trace(
    cluster: Cluster, exporter: InMemorySpanExporter, tracing: Callable[[], Tracing]
) -> None:
    """A pause, a vanished node and the end are one trace.

    The successor records the vanished attempt, up to its last heartbeat.
    """
    cluster.submit("a")
    node = FaultyNode(cluster.clock)
    ports = ports_of(node, cluster)
    first = cluster.worker(**ports, max_running_time=timedelta(seconds=100), observers=[tracing()])
    thread = cluster.clock.start_thread(unless_dead(first.run), name="first")
    while cluster.record("a").epoch < 2:
        cluster.clock.sleep(1)
    cluster.clock.sleep(80)
    node.dead = True
    assert thread.join(100)
    assert [fact(span, "epoch") for span in named(exporter, "attempt")] == [1]
    cluster.worker(observers=[tracing()]).run()
    one_trace(exporter)
    attempts, record = named(exporter, "attempt"), cluster.record("a")
    assert [fact(span, "outcome") for span in attempts] == ["timeout", "vanished", "completed"]
    assert [fact(span, "node") for span in attempts] == ["node1", "node1", "node2"]
    assert [fact(span, "epoch") for span in attempts] == [1, 2, 3]
    assert [fact(span, "resumed_step") for span in attempts] == [each.resumed_step for each in record.attempts]
    codes = [span.status.status_code for span in attempts]
    assert codes == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.OK]
    began, ended = seconds(attempts[1])
    assert ended - began == pytest.approx(record.attempts[1].prepared_s + record.attempts[1].useful_s)
    assert ended < seconds(attempts[2])[0]
    (root,) = named(exporter, "job")
    assert seconds(root)[0] == seconds(attempts[0])[0] == 0
    finished = datetime.fromisoformat(str(record.timestamps.finished))
    assert seconds(root)[1] == pytest.approx(finished.timestamp() - START_NS / 1e9)
    assert root.status.status_code is StatusCode.OK


def test_phases_follow_each_other_without_a_gap(
    cluster: Cluster, exporter: InMemorySpanExporter, tracing: Callable[[], Tracing]
) -> None:
    """The phases of an attempt are contiguous, and each checkpoint has its size and duration."""
    cluster.submit("a")
    cluster.worker(observers=[tracing()]).run()
    one_trace(exporter)
    (attempt,) = named(exporter, "attempt")
    phases = [*(named(exporter, name)[0] for name in ("preparing", "running", "ending", "publishing"))]
    edges = [seconds(phase) for phase in phases]
    assert (edges[0][0], edges[-1][1]) == seconds(attempt)
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]
    assert edges[1][1] - edges[1][0] == pytest.approx(300, abs=2)
    saved = named(exporter, "checkpoint")
    assert [fact(span, "outcome") for span in saved] == [*["committed"] * 4, "result"]
    steps = [int(str(fact(span, "step"))) for span in saved]
    assert (steps, steps[0], steps[-1]) == (sorted(set(steps)), 60, 300)
    assert all(int(str(fact(span, "bytes"))) > 0 for span in saved)
    assert {ids(span)[1] for span in [*phases, *saved]} == {ids(attempt)[0]}
    assert [event.name for event in attempt.events] == ["exited", "completed"]


def test_a_failure_is_an_error_with_its_reason(
    cluster: Cluster, exporter: InMemorySpanExporter, tracing: Callable[[], Tracing]
) -> None:
    """Every failed attempt has an error status with the reason, and so has the job once it has failed."""
    cluster.submit("a")
    cluster.worker(script=lambda _, step: 3 if step == 10 else None, observers=[tracing()]).run()
    one_trace(exporter)
    attempts = named(exporter, "attempt")
    assert len(attempts) == 3
    for span in [*attempts, *named(exporter, "job")]:
        assert span.status.status_code is StatusCode.ERROR
        assert "scripted to end at step 10" in (span.status.description or "")


def test_a_cancelled_job_ends_its_trace(
    cluster: Cluster, exporter: InMemorySpanExporter, tracing: Callable[[], Tracing]
) -> None:
    """A cancelled job ends its trace, as neither a success nor an error."""
    cluster.submit("a")
    start(cluster, cluster.worker(observers=[tracing()]))
    cluster.clock.sleep(100)
    stored = cluster.stored("a")
    asked = evolve(stored.record, control=evolve(stored.record.control, cancel=True))
    cluster.record_store.write(LAYOUT.job("a").record, asked, stored.version)
    cluster.clock.sleep(200)
    one_trace(exporter)
    (root,) = named(exporter, "job")
    assert fact(root, "state") == fact(named(exporter, "attempt")[0], "outcome") == "cancelled"
    assert root.status.status_code is StatusCode.UNSET


def test_an_upload_that_fails_is_a_span_and_an_event(
    cluster: Cluster, exporter: InMemorySpanExporter, tracing: Callable[[], Tracing]
) -> None:
    """The span of a failed upload is an error, and the next checkpoint has a span of its own."""
    cluster.submit("a")

    def refuse(name: str, *args: object, **_: object) -> None:
        if name.startswith("put") and "/checkpoints/" in str(args[0]) and cluster.clock.monotonic() < 100:
            raise RetryableError("the store is away")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse), observers=[tracing()]).run()
    one_trace(exporter)
    saved = named(exporter, "checkpoint")
    assert [fact(span, "outcome") for span in saved] == ["failed", *["committed"] * 3, "result"]
    assert saved[0].status.description == "the store is away"
    (attempt,) = named(exporter, "attempt")
    assert [event.name for event in attempt.events] == ["upload_failed", "exited", "completed"]


def test_a_superseded_attempt_has_the_id_used_by_its_successor(
    cluster: Cluster, exporter: InMemorySpanExporter, tracing: Callable[[], Tracing]
) -> None:
    """If a node believed to be gone ends its own span, it is the same span as its successor recorded."""
    cluster.submit("a")
    node = FaultyNode(cluster.clock)
    ports = ports_of(node, cluster)
    zombie = cluster.worker(**ports, observers=[tracing()])
    thread = cluster.clock.start_thread(unless_dead(zombie.run), name="zombie")
    cluster.clock.sleep(100)
    node.suspended = True
    cluster.worker(max_jobs=1, observers=[tracing()]).run()
    node.suspended = False
    zombie.drain()
    assert thread.join(1000)
    spans = {str(fact(span, "outcome")): ids(span) for span in named(exporter, "attempt")}
    assert spans.keys() == {"vanished", "superseded", "completed"}
    assert spans["vanished"] == spans["superseded"] != spans["completed"]
    assert [span.name for span in exporter.get_finished_spans() if span.parent is None] == ["job"]


def test_span_ids_depend_on_the_identity_alone() -> None:
    """Equal identities give equal ids, different ones different ids, in the standard's sizes."""
    trace = trace_id("bucket", "runs", "a", "2030-01-01T00:00:00.000+00:00")
    assert trace == trace_id("bucket", "runs", "a", "2030-01-01T00:00:00.000+00:00")
    assert trace != trace_id("bucket", "runs", "a", "2030-01-01T00:00:00.001+00:00"), "submitted again: another trace"
    assert trace_id("ab", "c") != trace_id("a", "bc")
    assert 0 < trace < 1 << 128
    assert 0 < span_id(trace, "job") < 1 << 64
    assert span_id(trace, "attempt", "1") != span_id(trace, "attempt", "2")
