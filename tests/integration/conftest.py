"""Fixtures of the tests that run workloads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running_workloads import Start, made_dirs, starting

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
