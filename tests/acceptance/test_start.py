"""A worker that cannot start says why in one line, exits with 78, and takes no job."""

import socket
from pathlib import Path
from typing import Any

import pytest
from support.process_cluster import ProcessCluster
from support.stub import Reply, Stub, s3_error, sqs_error

from acceptance.conftest import cloud

pytestmark = pytest.mark.acceptance


def refused(tmp_path: Path, settings: dict[str, str], *reasons: str) -> None:
    """Assert that the worker exits with 78, and that its last line contains *reasons*."""
    cluster = ProcessCluster(tmp_path, settings)
    done = cluster.holdfast("worker")
    assert done.returncode == 78, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len([line for line in lines if line.startswith("holdfast: ")]) == 1
    assert "Traceback" not in done.stderr
    for reason in reasons:
        assert reason in lines[-1]


def test_no_such_queue(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A missing queue is an error that names QUEUE_URL."""
    settings = cloud(request, fifo=False)
    refused(tmp_path, {**settings, "QUEUE_URL": f"{settings['QUEUE_URL']}-not"}, "QUEUE_URL")


def test_no_such_bucket(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A missing bucket is an error that names BUCKET."""
    refused(tmp_path, {**cloud(request, fifo=False), "BUCKET": "holdfast-nowhere"}, "check BUCKET")


def test_a_wrong_key_for_the_queue(request: pytest.FixtureRequest, tmp_path: Path, stub: Stub) -> None:
    """A refused key for the queue is an error that names the settings, and not the key."""
    stub.script(sqs_error(403, "InvalidClientTokenId"))
    settings = cloud(request, fifo=False)
    refused(tmp_path, {**settings, "QUEUE_URL": f"{stub.url}/1/q", "AWS_KEY": "wrong-but-secret"}, "AWS_ID", "AWS_KEY")


def test_a_wrong_key_for_the_bucket(request: pytest.FixtureRequest, tmp_path: Path, stub: Stub) -> None:
    """A refused key for the bucket is an error that names the settings."""
    stub.script(s3_error(403, "SignatureDoesNotMatch"))
    refused(tmp_path, {**cloud(request, fifo=False), "CLOUDFLARE_URL": stub.url}, "CLOUDFLARE_ID", "CLOUDFLARE_KEY")


def test_a_bucket_that_ignores_conditions(request: pytest.FixtureRequest, tmp_path: Path, stub: Stub) -> None:
    """The preflight check refuses a bucket that ignores conditional writes."""
    stub.script(Reply(200, headers={"ETag": '"5d41402abc4b2a76b9719d911017c592"'}))
    refused(tmp_path, {**cloud(request, fifo=False), "CLOUDFLARE_URL": stub.url}, "condition")


def test_a_setting_that_is_missing_or_wrong(tmp_path: Path) -> None:
    """A missing or invalid setting is an error before any connection."""
    cluster = ProcessCluster(tmp_path, {})
    for more, named in (
        ({"QUEUE_URL": "https://sqs.us-east-2.amazonaws.com/1/q"}, "BUCKET"),
        ({"LEASE": "x"}, "LEASE"),
    ):
        done = cluster.holdfast("worker", **more)
        assert (done.returncode, done.stderr.count("\n")) == (78, 1)
        assert named in done.stderr


def test_a_wrong_workloads_file(files: ProcessCluster) -> None:
    """An invalid workloads file is an error before any job is taken."""
    (files.home / "workloads.toml").write_text("[x]\ncolour = 1\n")
    files.submit("a")
    done = files.holdfast("worker")
    assert done.returncode == 78
    assert "workloads.toml: [x] colour" in done.stderr
    assert files.record("a").epoch == 0


def test_an_unreachable_server_is_retried_then_reported(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """An unreachable server is retried for a while; then the worker exits with 1, without a traceback."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    done = ProcessCluster(tmp_path, {**cloud(request, fifo=False), "CLOUDFLARE_URL": nowhere}).holdfast("worker")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_sigterm_to_an_idle_worker(cluster: ProcessCluster) -> None:
    """An idle worker exits with 0 on SIGTERM."""
    worker: Any = cluster.worker()
    while "worker.started" not in cluster.log_of(worker):
        assert worker.poll() is None
    worker.terminate()
    assert worker.wait(20) == 0
