"""Unit tests run on virtual time, where a coarser tick is as good as a fine one, and faster."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _coarse_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.watch.TICK_S", 0.5)
    monkeypatch.setattr("adapters.memory.queue.POLL_S", 1.0)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command quiets the log of its process, and the process goes on to the next test here."""
    logger = logging.getLogger("holdfast")
    level = logger.level
    yield
    logger.setLevel(level)
