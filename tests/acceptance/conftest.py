"""Clusters for the acceptance tests: on files, and on SQS and R2 over a socket, standard and FIFO."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.process_cluster import ProcessCluster

KEYS = {"AWS_ID": "AKIATESTTESTTESTTEST", "AWS_KEY": "not-a-secret"}


def cloud(request: pytest.FixtureRequest, *, fifo: bool) -> dict[str, str]:
    """Return the settings of a new queue and a new bucket."""
    url, sqs, s3 = (request.getfixturevalue(name) for name in ("moto_url", "sqs_client", "s3_client"))
    name = f"cluster-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    attributes: dict[str, Any] = {"FifoQueue": "true"} if fifo else {}
    queue = sqs.create_queue(QueueName=f"{name}.fifo" if fifo else name, Attributes=attributes)
    return {
        **KEYS,
        "QUEUE_URL": queue["QueueUrl"],
        "CLOUDFLARE_URL": url,
        "CLOUDFLARE_ID": KEYS["AWS_ID"],
        "CLOUDFLARE_KEY": KEYS["AWS_KEY"],
        "BUCKET": name,
        "PREFIX": "runs",
    }


@pytest.fixture(params=["files", "standard", "fifo"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessCluster]:
    """Yield a cluster of each kind."""
    settings = {} if request.param == "files" else cloud(request, fifo=request.param == "fifo")
    made = ProcessCluster(tmp_path, settings)
    yield made
    made.close()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ProcessCluster]:
    """Yield a cluster on files, for tests that do not depend on the kind."""
    made = ProcessCluster(tmp_path, {})
    yield made
    made.close()
