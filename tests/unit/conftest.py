"""Unit tests run on virtual time, where a coarser tick is as good as a fine one, and faster."""

from collections.abc import Callable

import pytest

from client.cli import main
from client.config.environment import Environment

Run = Callable[..., tuple[int, str, str]]
"""Runs a command, and returns its exit code, stdout and stderr."""


@pytest.fixture
def run(env: Environment, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the installed command's `main` in *env*."""

    def holdfast(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return holdfast


@pytest.fixture(autouse=True)
def _coarse_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.attempt.supervisor.TICK_S", 0.5)
    monkeypatch.setattr("adapters.memory.queue.POLL_S", 1.0)


@pytest.fixture(autouse=True)
def _defects_fail_the_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise unexpected exceptions, which a worker survives, unless the test is about that."""

    def fail(_: str, error: Exception) -> None:
        raise error

    if not request.node.get_closest_marker("handles_defects"):
        monkeypatch.setattr("lifecycle.attempt.defects.log_defect", fail)
