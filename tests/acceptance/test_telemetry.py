"""Telemetry of real processes: metrics of a worker that is killed and replaced, logs, and no secrets in either."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.process_cluster import PATIENCE_S, ProcessCluster, has_checkpoint
from support.stub import Stub, s3_error

from acceptance.conftest import cloud

pytestmark = pytest.mark.acceptance

HIDDEN = "not/a+real=key-0123456789"


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def scraped(port: int, condition: Callable[[str], object]) -> str:
    """Return the first response that fulfils *condition*, retrying while the connection is refused."""
    deadline, text = time.monotonic() + PATIENCE_S, "no answer"
    while time.monotonic() < deadline:
        try:
            text = scrape(port)
        except OSError:
            text = "no answer"
        if condition(text):
            return text
        time.sleep(0.1)
    raise AssertionError(text)


@pytest.fixture
def exporter(cluster: ProcessCluster) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "client.cli", "exporter", "--port", str(port), "--every", "1s"]
    with (cluster.home / "exporter.log").open("wb") as log:
        process = subprocess.Popen(command, env=cluster.environ(), cwd=cluster.home, stdout=log, stderr=log)
    yield port
    process.terminate()
    assert process.wait(20) == 0, (cluster.home / "exporter.log").read_text()


def test_metrics_follow_a_killed_worker_and_its_successor(cluster: ProcessCluster, exporter: int) -> None:
    """A killed worker's endpoint is gone; the exporter shows the stale lease; the successor's counters start at 0."""
    first, second = free_port(), free_port()
    cluster.submit("a")
    victim = cluster.worker(METRICS_PORT=str(first))
    cluster.until("a", has_checkpoint)
    text = scrape(first)
    assert 'holdfast_attempt_info{epoch="1",job="a",workload="series-sum"} 1.0' in text
    assert 'holdfast_transitions_total{destination="running",source="input_loaded",trigger="start"} 1.0' in text
    scraped(exporter, lambda text: 'holdfast_jobs{state="queued"} 0.0' in text and "holdfast_jobs_stale 0.0" in text)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    with pytest.raises(OSError, match="refused"):
        scrape(first)
    scraped(exporter, lambda text: "holdfast_jobs_stale 1.0" in text)
    cluster.worker(METRICS_PORT=str(second))
    text = scraped(second, lambda text: 'destination="resumed"' in text)
    assert 'job="a"' in text
    cluster.settled("a")
    text = scraped(second, lambda text: 'holdfast_attempts_total{outcome="completed"} 1.0' in text)
    assert 'job="a"' not in text, "the attempt is over"
    scraped(exporter, lambda text: 'holdfast_jobs{state="completed"} 1.0' in text and "holdfast_jobs_stale 0.0" in text)
    lines = [json.loads(line) for worker in cluster.workers for line in cluster.log_of(worker).splitlines()]
    assert all(line["node"] and line["level"] and line["timestamp"] for line in lines)
    resumed = next(line for line in lines if line["event"] == "resumed")
    assert (resumed["job"], resumed["epoch"]) == ("a", 2)
    assert all(line["epoch"] in {1, 2} and line["state"] for line in lines if line["logger"] == "holdfast.attempt")


def test_a_port_in_use_is_an_error_before_any_job(files: ProcessCluster) -> None:
    """A port in use is one line and exit code 78."""
    files.submit("a")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = files.holdfast("worker", METRICS_PORT=str(port))
        exporter = files.holdfast("exporter", "--port", str(port))
    for ended in (done, exporter):
        assert (ended.returncode, ended.stderr.count("\n")) == (78, 1), ended.stderr
        assert f"port {port}: Address already in use" in ended.stderr
    assert "METRICS_PORT" in done.stderr
    assert files.record("a").epoch == 0


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_that_quotes_the_key_is_redacted(
    request: pytest.FixtureRequest, tmp_path: Path, stub: Stub, form: str
) -> None:
    """If a service's error quotes the key, retries and the last line report the refusal without it."""
    quoting = f"the key {HIDDEN} is not known"
    stub.script(s3_error(503, "SlowDown", quoting), s3_error(403, "SignatureDoesNotMatch", quoting))
    settings = {**cloud(request, fifo=False), "CLOUDFLARE_URL": stub.url, "CLOUDFLARE_KEY": HIDDEN}
    done = ProcessCluster(tmp_path, settings).holdfast("worker", LOG_FORMAT=form)
    assert done.returncode == 78
    assert "the key … is not known" in done.stderr.replace("\\u2026", "…")
    assert "SignatureDoesNotMatch" in done.stderr
    assert HIDDEN not in done.stdout + done.stderr


BROKEN = """
import sys
from client import cli
from client.config import composition

def check_services(env):
    raise ValueError(f"Invalid header value {env.settings.store_key!r}")

composition.check_services = check_services
sys.exit(cli.main(["worker"]))
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_that_quotes_the_key_is_redacted(files: ProcessCluster, form: str) -> None:
    """An unexpected error before the first job is logged without the key that its text contains."""
    environ = files.environ(LOG_FORMAT=form, CLOUDFLARE_KEY=HIDDEN)
    command = [sys.executable, "-c", BROKEN]
    done = subprocess.run(command, env=environ, cwd=files.home, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: Invalid header value '…'" in done.stderr.replace("\\u2026", "…")
    assert HIDDEN not in done.stdout + done.stderr


def test_logs_on_a_terminal_are_readable(files: ProcessCluster) -> None:
    """On a terminal the default log format is coloured lines."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "client.cli", "worker", "--idle-exit", "1s"]
    with subprocess.Popen(command, env=files.environ(), cwd=files.home, stdout=theirs, stderr=theirs) as worker:
        os.close(theirs)
        text = b""
        while chunk := read(ours):
            text += chunk
    os.close(ours)
    assert worker.returncode == 0
    assert b"worker.started" in text
    assert b"\x1b[" in text
    assert not text.startswith(b"{")


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end is closed
        return b""
