"""Submitting 1,000 jobs with 40 ms round trips, in comparison with SaladCloud's SQS demo.

The demo sends its messages two per batch, one batch after the other, from one thread, and keeps no record. Holdfast
first puts a record for each job, conditionally. Both use one server in one run, which answers 6,000 requests a second
and so limits neither.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch

import boto3
from harness import Row, StubServer, holdfast, stub, write_requests

from client.commands.submit import read_requests
from client.config.composition import open_environment
from client.config.settings import from_environ
from client.operations.submission import submit

JOBS: Final = 1000
ROUND_TRIP_S: Final = 0.04
DEMO_BATCH: Final = 2
TARGET: Final = 10


def measure() -> Iterator[Row]:
    """Measure both."""
    with stub(ROUND_TRIP_S) as server, TemporaryDirectory() as folder:
        home = Path(folder)
        file = write_requests(home / "jobs.jsonl", JOBS)
        demo_s = demo_seconds(server)
        command_s = command_seconds(server, home, file)
        function_s = function_seconds(server, home, file)
        check(server)
    yield Row(
        f"submit {JOBS} jobs, 40 ms round trip: the demo's method",
        f"{JOBS / demo_s:.0f} jobs/s",
        "one thread, two per batch, no record",
    )
    for what, took_s in (("`holdfast submit --from`, whole command", command_s), ("its function alone", function_s)):
        ratio = demo_s / took_s
        yield Row(
            f"  {what}, records included",
            f"{JOBS / took_s:.0f} jobs/s",
            f"{ratio:.1f} x the demo's",
            f">= {TARGET} x",
            ratio >= TARGET,
        )


def demo_seconds(server: StubServer) -> float:
    """Return the seconds of the demo's method."""
    with without_host_settings():
        client = boto3.client(
            "sqs",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="not-a-secret",
            aws_secret_access_key="not-a-secret",  # noqa: S106 - the stub checks no signature
        )
    began = time.perf_counter()
    for first in range(0, JOBS, DEMO_BATCH):
        entries = [{"Id": str(number), "MessageBody": body(number)} for number in range(first, first + DEMO_BATCH)]
        client.send_message_batch(QueueUrl=f"{server.url}/1/demo", Entries=entries)
    return time.perf_counter() - began


def body(number: int) -> str:
    """Return a message of the demo."""
    parameters = {"STATE_SAVING_INTERVAL": "600", "STEP_RUNNING_TIME": "1"}
    return json.dumps({"bucket": "bench", "folder": f"demo/job{number}", "parameters": parameters})


def command_seconds(server: StubServer, home: Path, file: Path) -> float:
    """Return the seconds of the command, including its start."""
    env = server.environ(home, PREFIX="command")
    began = time.perf_counter()
    holdfast(env, home, "submit", "--no-input", "--from", str(file))
    return time.perf_counter() - began


def function_seconds(server: StubServer, home: Path, file: Path) -> float:
    """Return the seconds of the command's function, with existing clients."""
    env = open_environment(from_environ(server.environ(home, PREFIX="function"), None))
    orders = read_requests([], file=file, workload="series-sum", params=[])
    began = time.perf_counter()
    outcomes = [outcome.outcome for outcome in submit(env, orders)]
    took_s = time.perf_counter() - began
    if outcomes != ["submitted"] * JOBS:
        raise RuntimeError(f"not all jobs were submitted: {sorted(set(outcomes))}")
    return took_s


def check(server: StubServer) -> None:
    """Check that both sent all their calls, or the figures would mean nothing."""
    counts = server.counts()
    if counts["s3 PUT record"] < 2 * JOBS or counts["sqs SendMessageBatch"] < JOBS // DEMO_BATCH + 2 * JOBS // 10:
        raise RuntimeError(f"calls are missing: {counts}")


@contextmanager
def without_host_settings() -> Iterator[None]:
    """Remove the host's AWS settings during the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with patch.dict(os.environ, {**kept, "AWS_CONFIG_FILE": os.devnull}, clear=True):
        yield
