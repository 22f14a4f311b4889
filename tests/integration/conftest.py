"""Fixtures of several of these tests: workloads that run, and boto3 clients."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running_workloads import Start, made_dirs, starting

from adapters.aws.clients import ClientKind, Credentials, make_client
from adapters.aws.error_mapping import Service
from lifecycle.ports.runner import JobDirs


@pytest.fixture
def dirs(tmp_path: Path) -> JobDirs:
    """Return the directories of a job."""
    return made_dirs(tmp_path / "job")


@pytest.fixture
def start(dirs: JobDirs) -> Iterator[Start]:
    """Return a function that starts workloads in *dirs*; they end with the test."""
    with starting(dirs) as run:
        yield run


@pytest.fixture
def client() -> Iterator[Any]:
    """Return a function that creates clients; they are closed after the test."""
    made = []

    def make(service: Service, kind: ClientKind, endpoint: str = "https://store.invalid", region: str = "auto") -> Any:
        made.append(
            make_client(
                service,
                kind,
                endpoint=endpoint,
                region=region,
                credentials=Credentials(key_id="AKIATEST", secret="not-a-secret"),
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()
