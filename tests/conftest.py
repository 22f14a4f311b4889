"""Fixtures of several tiers: a server that speaks SQS and S3, and new queues and buckets on it.

Without moto, the tests that need it are skipped; in CI they fail.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stub import Stub

from adapters.aws import queue as sqs
from adapters.aws import store as r2
from adapters.aws.clients import BULK, CONTROL, Credentials, make_client
from adapters.aws.error_mapping import S3, SQS
from adapters.local.clock import SystemClock

LAUNCHER = Path(__file__).with_name("moto_launcher.py")
KEY_ID, SECRET = "AKIATESTTESTTESTTEST", "not-a-secret"
REGION = "us-east-1"


@pytest.fixture(autouse=True, scope="session")
def _without_host_settings() -> Iterator[None]:
    """Remove the host's AWS configuration and proxies, so that no test can reach a real account."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "CLOUDFLARE_"))]:
            patch.delenv(name)
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("XDG_CONFIG_HOME", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(autouse=True)
def _restored_log_level() -> Iterator[None]:
    """Restore the log level, which commands change."""
    logger = logging.getLogger("holdfast")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Return the endpoint of a running server for SQS and S3."""
    if not all(importlib.util.find_spec(name) for name in ("moto", "flask")):
        if os.environ.get("CI"):
            pytest.fail("moto[server] is not installed, and CI must not skip the tests that need it")
        pytest.skip("moto[server] is not installed")
    with subprocess.Popen(
        [sys.executable, LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port, "the server did not start; its stderr says why"
        yield f"http://127.0.0.1:{port}"
        server.stdin.close()
        server.wait(timeout=10)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """Return a server whose responses the test scripts."""
    server = Stub()
    yield server
    server.close()


@pytest.fixture(scope="session")
def sqs_client(moto_url: str) -> Iterator[Any]:
    """Return a boto3 client, to prepare and to inspect."""
    client = make_client(
        SQS, CONTROL, endpoint=moto_url, region=REGION, credentials=Credentials(key_id=KEY_ID, secret=SECRET)
    )
    yield client
    client.close()


@pytest.fixture(scope="session")
def s3_client(moto_url: str) -> Iterator[Any]:
    """Return a boto3 client, to prepare and to inspect."""
    client = make_client(
        S3, BULK, endpoint=moto_url, region=REGION, credentials=Credentials(key_id=KEY_ID, secret=SECRET)
    )
    yield client
    client.close()


@pytest.fixture
def wire_store(moto_url: str, s3_client: Any) -> Iterator[Callable[[], r2.R2Store]]:
    """Return a function that creates an empty store on the server."""
    made: list[r2.R2Store] = []

    def make() -> r2.R2Store:
        bucket = f"holdfast-{uuid.uuid4().hex}"
        s3_client.create_bucket(Bucket=bucket)
        store = r2.connect(
            endpoint=moto_url,
            region="auto",
            credentials=Credentials(key_id=KEY_ID, secret=SECRET),
            bucket=bucket,
            clock=SystemClock(),
        )
        made.append(store)
        return store

    yield make
    for store in made:
        if store._small_http:
            store._small_http.close()
        store._control.close()
        store._bulk.close()


@pytest.fixture
def wire_queue(sqs_client: Any) -> Iterator[Callable[..., sqs.SqsQueue]]:
    """Return a function that creates an empty queue on the server; its keywords are SQS attributes."""
    made: list[sqs.SqsQueue] = []

    def make(*, fifo: bool = False, **attributes: str) -> sqs.SqsQueue:
        name = f"holdfast-{uuid.uuid4().hex}{'.fifo' if fifo else ''}"
        if fifo:
            attributes = {"FifoQueue": "true", **attributes}
        url = sqs_client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        queue = sqs.connect(url=url, credentials=Credentials(key_id=KEY_ID, secret=SECRET), clock=SystemClock())
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue._control.close()
        queue._receiver.close()


@pytest.fixture
def wire_queue_with_dead_letters(
    wire_queue: Callable[..., sqs.SqsQueue], sqs_client: Any
) -> Callable[..., tuple[sqs.SqsQueue, sqs.SqsQueue]]:
    """Return a function that creates a queue and its dead-letter queue."""

    def make(*, fifo: bool = False) -> tuple[sqs.SqsQueue, sqs.SqsQueue]:
        dead = wire_queue(fifo=fifo)
        arn = sqs_client.get_queue_attributes(QueueUrl=dead._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        limits = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "100"})
        return wire_queue(fifo=fifo, RedrivePolicy=limits), dead

    return make


@pytest.fixture
def _untraced() -> Iterator[None]:
    """Disable coverage's tracing, which doubles the time of tests that run something thousands of times."""
    tracer, thread_tracer = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    yield
    sys.settrace(tracer)
    threading.settrace(thread_tracer)
