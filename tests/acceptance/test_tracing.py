"""Traces of real workers, sent over HTTP to a real collector, and to one that never answers."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from attrs import define, field
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.process_cluster import PATIENCE_S, ProcessCluster, has_checkpoint

pytestmark = pytest.mark.acceptance


@define
class Collector:
    """A server that decodes the traces it receives."""

    server: ThreadingHTTPServer
    spans: list[Any] = field(factory=list)
    context: set[str] = field(factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            known = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.context.add(known["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            made.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the base class's name

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def outcome(span: Any) -> str:
    return str({each.key: each.value.string_value for each in span.attributes}["holdfast.outcome"])


def test_a_killed_worker_and_its_successor_make_one_trace(files: ProcessCluster, collector: Collector) -> None:
    """A killed worker's attempt is reported by its successor, in the same trace and below the same root."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    files.submit("a")
    first = files.worker(**settings)
    files.until("a", has_checkpoint)
    first.kill()
    first.wait()
    second = files.worker("--max-jobs", "1", **settings)
    assert second.wait(PATIENCE_S) == 0, files.log_of(second)
    assert files.record("a").is_settled
    spans = collector.spans
    assert collector.context == {"holdfast"}
    assert len({span.trace_id for span in spans}) == 1
    (root,) = [span for span in spans if span.name == "job"]
    attempts = {outcome(span): span for span in spans if span.name == "attempt"}
    assert attempts.keys() == {"vanished", "completed"}
    assert {span.parent_span_id for span in attempts.values()} == {root.span_id}
    assert not root.parent_span_id
    below = {span.parent_span_id for span in spans if span.name == "checkpoint"}
    assert below == {span.span_id for span in attempts.values()}, (
        "what the killed one had sent hangs on what it had not"
    )


def test_a_collector_that_never_answers_costs_nothing(files: ProcessCluster) -> None:
    """A collector that never answers delays neither the job nor the worker's exit."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        files.submit("a", "1\n50\n")
        worker = files.worker("--max-jobs", "1", OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="3600")
        record = files.settled("a")
        assert [attempt.outcome for attempt in record.attempts] == ["completed"]
        assert worker.wait(PATIENCE_S) == 0, "its time-out is an hour: only a bounded flush lets it go"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https URL"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='grpc': traces are sent by http/protobuf only; unset it",
        ),
    ],
)
def test_an_unusable_collector_setting_is_one_line(files: ProcessCluster, settings: dict[str, str], says: str) -> None:
    """An invalid collector setting is one line and exit code 78, before any job is taken."""
    done = files.holdfast("worker", "--idle-exit", "1s", **settings)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1].endswith(says)


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
from client.cli import main
sys.exit(main(["worker", "--idle-exit", "1s"]))
"""


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:1"])
def test_without_the_extra(files: ProcessCluster, endpoint: str) -> None:
    """Without the tracing extra a worker runs; if traces are configured, it names the extra and exits with 78."""
    environ = files.environ(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], env=environ, cwd=files.home, check=False, capture_output=True, text=True
    )
    assert done.returncode == (78 if endpoint else 0), done.stderr
    assert ("pip install 'holdfast-jobs[otel]'" in done.stderr) is bool(endpoint)
