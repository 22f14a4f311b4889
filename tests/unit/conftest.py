"""Unit tests run on virtual time, where a coarser tick is as good as a fine one, and faster."""

import pytest


@pytest.fixture(autouse=True)
def _coarse_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.attempt.supervisor.TICK_S", 0.5)
    monkeypatch.setattr("adapters.memory.queue.POLL_S", 1.0)
