"""Fixtures: workers run on virtual time, with coarse ticks."""

import logging

import pytest


@pytest.fixture
def _coarse_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("holdfast"), "disabled", True)
    monkeypatch.setattr("lifecycle.attempt.supervisor.TICK_S", 0.5)
    monkeypatch.setattr("adapters.memory.queue.POLL_S", 1.0)
