"""A worker's metrics, during an attempt and afterwards."""

import logging
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.cluster import Cluster

from adapters.memory.clock import ManualClock
from adapters.retry_listeners import RetryListeners
from adapters.retrying import RetryingStore
from adapters.telemetry.metrics import MAX_ERROR_LABELS, OTHER, Metrics, error_label, serve
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.states import EDGES, Edge, State, Trigger


def values(metrics: Metrics) -> dict[str, float]:
    """Return the samples by name and labels, as scraped."""
    text = generate_latest(metrics.registry).decode()
    return {
        f"{sample.name}{sorted(sample.labels.values()) or ''}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("holdfast_")
    }


@define
class Scraping:
    """An observer that scrapes at every edge."""

    metrics: Metrics
    seen: dict[State, dict[str, float]] = field(factory=dict)

    def entered(self, edge: Edge, record: JobRecord) -> None:
        self.seen[edge.destination] = values(self.metrics)

    def wrote(self, record: JobRecord) -> None:
        pass

    def noted(self, line: object) -> None:
        pass

    def left(self, record: JobRecord) -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture
def metrics(cluster: Cluster) -> Metrics:
    return Metrics(cluster.clock, "node1")


def test_an_attempt_is_counted_from_lease_to_end(cluster: Cluster, metrics: Metrics) -> None:
    """Every edge, write, checkpoint and end is counted, and the attempt's gauges disappear with it."""
    cluster.submit("a")
    scraping = Scraping(metrics)
    cluster.worker(observers=[metrics, scraping]).run()
    after = values(metrics)
    assert after["holdfast_transitions_total['queued', 'received', 'take']"] == 1
    assert after["holdfast_transitions_total['checkpoint', 'checkpointing', 'running']"] == 5
    assert after["holdfast_attempts_total['completed']"] == 1
    assert after["holdfast_attempts_total['failed']"] == 0
    assert after["holdfast_checkpoints_total"] == after["holdfast_checkpoint_seconds_count"] == 4
    assert after["holdfast_checkpoint_sent_bytes_total"] > 0
    assert after["holdfast_record_writes_total"] >= 5
    assert not [name for name in after if name.startswith("holdfast_attempt_") and "events" not in name]

    running = scraping.seen[State.CHECKPOINTING]
    assert running["holdfast_attempt_info['1', 'a', 'series-sum']"] == 1
    assert running["holdfast_attempt_state['checkpointing']"] == 1
    assert running["holdfast_attempt_state['running']"] == 0
    assert running["holdfast_attempt_lease_seconds"] == 120
    assert 0 <= running["holdfast_attempt_lease_age_seconds"] <= 30
    assert 0 < running["holdfast_attempt_checkpoint_age_seconds"] <= 61
    assert running["holdfast_attempt_steps_done"] <= running["holdfast_attempt_steps"] == 300


def test_ages_grow_until_the_next_write(metrics: Metrics, cluster: Cluster) -> None:
    """Ages are computed at the scrape, so a hanging worker is visible."""
    edge = {edge.trigger: edge for edge in EDGES}
    record = JobRecord("a", "series-sum", lease_s=120.0)
    metrics.entered(edge[Trigger.TAKE], record)
    assert "holdfast_attempt_checkpoint_age_seconds" not in values(metrics)
    metrics.entered(edge[Trigger.START], record)
    cluster.clock.advance(300)
    old = values(metrics)
    assert old["holdfast_attempt_lease_age_seconds"] == old["holdfast_attempt_checkpoint_age_seconds"] == 300
    metrics.wrote(record)
    renewed = values(metrics)
    assert renewed["holdfast_attempt_lease_age_seconds"] == 0
    assert renewed["holdfast_attempt_checkpoint_age_seconds"] == 300


def test_failures_and_lost_leases_are_counted_separately(cluster: Cluster, metrics: Metrics) -> None:
    """A failed attempt is counted as released, and one that lost its lease as superseded."""
    cluster.submit("a")
    cluster.worker(observers=[metrics], script=lambda _, step: 3 if step == 10 else None, max_jobs=1).run()
    assert values(metrics)["holdfast_attempts_total['released']"] == 1
    edge = {edge.trigger: edge for edge in EDGES}
    for trigger in (Trigger.TAKE, Trigger.SUPERSEDE):
        metrics.entered(edge[trigger], cluster.record("a"))
    metrics.left(cluster.record("a"))
    assert values(metrics)["holdfast_attempts_total['superseded']"] == 1


def test_retries_are_counted_by_call_and_error() -> None:
    """Each retry is counted, but not the last attempt."""

    class ThrottledError(RetryableError):
        pass

    class Store:
        def get(self, key: str) -> None:
            raise ThrottledError(key)

    clock, retries = ManualClock(), RetryListeners()
    metrics = Metrics(clock, "node1")
    retries.add(metrics.retries)
    with pytest.raises(ThrottledError):
        RetryingStore(Store(), clock, retries).get("jobs/a/input.txt")  # type: ignore[arg-type]
    assert values(metrics)["holdfast_retries_total['ThrottledError', 'store get']"] == 3


def with_cause(cause: Exception) -> RetryableError:
    error = RetryableError("get k")
    error.__cause__ = cause
    return error


class ResponseError(Exception):
    def __init__(self, response: dict[str, object]) -> None:
        self.response = response


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "not_accepted"),
        (RetryableError("x"), "RetryableError"),
        (with_cause(TimeoutError()), "TimeoutError"),
        (with_cause(ResponseError({"Error": {"Code": "SlowDown"}})), "SlowDown"),
        (
            with_cause(ResponseError({"Error": {"Code": 'x" y'}, "ResponseMetadata": {"HTTPStatusCode": 503}})),
            "HTTP503",
        ),
        (with_cause(ResponseError({})), "ResponseError"),
    ],
)
def test_an_error_becomes_a_label(error: BaseException | None, kind: str) -> None:
    """The label is the service's code, the HTTP status, or the class of the cause."""
    assert error_label(error) == kind


def test_the_number_of_error_labels_is_limited(metrics: Metrics) -> None:
    """Beyond the limit, all errors share one label."""
    for number in range(2 * MAX_ERROR_LABELS):
        metrics.retries("store get", with_cause(ResponseError({"Error": {"Code": f"Made{number}"}})))
    counted = {name: value for name, value in values(metrics).items() if name.startswith("holdfast_retries_total")}
    assert len(counted) == MAX_ERROR_LABELS + 1
    assert counted[f"holdfast_retries_total['{OTHER}', 'store get']"] == MAX_ERROR_LABELS


def test_a_broken_scrape_is_one_log_line(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A connection that breaks during a scrape is one log line; socketserver would print a traceback."""
    port = serve(metrics.registry, host="127.0.0.1", port=0, remedy="")
    with caplog.at_level(logging.INFO, "holdfast.metrics"):
        with socket.create_connection(("127.0.0.1", port)) as scraper:
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            scraper.sendall(b"GET /metr")
        deadline = time.monotonic() + 30
        while not caplog.messages:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert caplog.messages[0].startswith("scrape.failed error='ConnectionResetError: ")
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_an_error(metrics: Metrics, listening: int) -> None:
    """The error says how to choose another port."""
    with pytest.raises(ConfigError, match=f"port {listening}: Address already in use; choose another"):
        serve(metrics.registry, host="127.0.0.1", port=listening, remedy="choose another")


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])
