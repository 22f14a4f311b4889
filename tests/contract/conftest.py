"""Adapters of a port, for the one suite that all of them pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.local.clock import SystemClock
from adapters.local.queue import LocalQueue
from adapters.local.store import LocalStore
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from adapters.retrying import RetryingQueue, RetryingStore
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.store import ObjectStore

STORES = ["memory", "local", "wire", "wire-retrying"]
QUEUES = ["memory", "memory-fifo", "local", "wire", "wire-fifo", "wire-retrying"]


@pytest.fixture
def clock() -> Clock:
    """Return real time: servers and processes have no other."""
    return SystemClock()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> ObjectStore:
    """Return an empty store of each kind."""
    kind, _, wrapped = request.param.partition("-")
    if kind == "memory":
        return MemoryStore(clock)
    if kind == "local":
        return LocalStore(tmp_path / "bucket", clock)
    make: Callable[[], ObjectStore] = request.getfixturevalue("wire_store")
    return RetryingStore(make(), clock) if wrapped else make()


@pytest.fixture(params=QUEUES)
def queue(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> JobQueue:
    """Return an empty queue of each kind."""
    kind, _, sort = request.param.partition("-")
    if kind == "memory":
        return MemoryQueue(clock, fifo=sort == "fifo")
    if kind == "local":
        return LocalQueue(tmp_path / "queue.sqlite3", clock)
    make: Any = request.getfixturevalue("wire_queue")
    made: JobQueue = make(fifo=sort == "fifo")
    return RetryingQueue(made, clock) if sort == "retrying" else made
