"""Unknown does not mean lost: answers that cannot be read, and a store whose answers give no time."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.any_port import AnyPort
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultyNode, unless_dead

from adapters.memory.store import MemoryStore
from lifecycle.attempt.worker import Worker
from lifecycle.errors import RetryableError
from lifecycle.ports.clock import Thread
from lifecycle.ports.store import StoredObject
from lifecycle.record.message import announce
from lifecycle.states import State

RECORD = LAYOUT.job("a").record
PAGE = b"<html>captive portal</html>"
NEWER = json.dumps({"schema": 99, "job": "a"}).encode()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def start(cluster: Cluster, worker: Worker) -> Thread:
    """Run *worker* in a thread."""
    return cluster.clock.start_thread(unless_dead(worker.run), name="worker")


def worker_on(node: FaultyNode, cluster: Cluster) -> Worker:
    """Return a worker on a node that the test can kill."""
    store, queue = node.around(cluster.memory), node.around(cluster.queue)
    return cluster.worker(store=store, queue=queue, clock=node.clock())


class Unreadable(AnyPort):
    """A store that loses the answers of puts to the record, and cannot be read afterwards for a while.

    Args:
        store: The store.
        body: What it answers instead of the record; None for the record's first half.
        number: The put that is hit, from 1.
        reads: Reads that are answered so.
    """

    def __init__(self, store: MemoryStore, body: bytes | None, *, number: int, reads: int = 1) -> None:
        self._store = store
        self._body = body
        self._number = number
        self._reads = reads
        self._left = 0
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, body: bytes, **condition: Any) -> str:
        version = self._store.put(key, body, **condition)
        self.puts += key == RECORD
        if key == RECORD and self.puts == self._number:
            self._left = self._reads
            raise RetryableError("no answer, on purpose")
        return version

    def get(self, key: str) -> StoredObject | None:
        found = self._store.get(key)
        if found and key == RECORD and self._left:
            self._left -= 1
            return evolve(found, body=found.body[: len(found.body) // 2] if self._body is None else self._body)
        return found


@pytest.mark.parametrize("body", [PAGE, None, NEWER], ids=["not JSON", "half a record", "newer schema"])
@pytest.mark.parametrize("number", range(2, 8))
def test_race_unreadable_answer_at_read_back(cluster: Cluster, number: int, body: bytes | None) -> None:
    """If reading back finds what this version cannot read, the attempt goes on: another epoch alone ends it."""
    cluster.submit("a")
    store = Unreadable(cluster.memory, body, number=number, reads=2)
    cluster.worker(store=store).run()
    assert store.puts >= number
    record = cluster.record("a")
    assert (record.state, len(record.attempts), record.interruptions) == (State.COMPLETED, 1, {})
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("body", [PAGE, None, NEWER], ids=["not JSON", "half a record", "newer schema"])
def test_race_unreadable_answer_at_a_claim(cluster: Cluster, body: bytes | None) -> None:
    """If it is not known whether a claim landed, the message returns to the queue, and the worker keeps running."""
    cluster.submit("a")
    cluster.submit("b", "1\n20\n")
    cluster.worker(store=Unreadable(cluster.memory, body, number=1)).run()
    assert cluster.record("b").state is State.COMPLETED
    record = cluster.record("a")
    assert (record.state, len(record.attempts)) == (State.COMPLETED, 2)


def test_a_manifest_with_wrong_bytes_is_read_again(cluster: Cluster) -> None:
    """A manifest whose bytes were spoilt on their way is not damaged."""
    cluster.submit("a")
    thread = start(cluster, cluster.worker(max_jobs=1, max_running_time=timedelta(seconds=100)))
    assert thread.join(1000)
    spoilt: list[str] = []

    class Spoiling(AnyPort):
        def __getattr__(self, name: str) -> Any:
            return getattr(cluster.memory, name)

        def get(self, key: str) -> StoredObject | None:
            found = cluster.memory.get(key)
            if found and "/checkpoints/" in key and key not in spoilt:
                spoilt.append(key)
                return evolve(found, body=PAGE)
            return found

    cluster.worker(store=Spoiling()).run()
    assert spoilt
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.record("a").attempts[1].resumed_step == cluster.record("a").attempts[0].steps


# ---- a store whose answers give no time ----


@pytest.fixture
def clockless(tmp_path: Path) -> Cluster:
    """Return a cluster whose store gives no ages."""
    cluster = Cluster(tmp_path)
    cluster.memory = cluster.store = MemoryStore(cluster.clock, write_gap_s=1.0, gives_ages=False)
    return cluster


def test_race_owner_alive_without_ages(clockless: Cluster) -> None:
    """However far a node's wall clock is off, a job whose owner renews its lease is not taken from it."""
    clockless.submit("a")
    first = start(clockless, clockless.worker(max_jobs=1))
    clockless.clock.sleep(40)
    clockless.queue.send([announce(clockless.record("a"), 1)])
    second = start(clockless, clockless.worker(max_jobs=1))
    assert first.join(1000)
    assert second.join(1000)
    assert [attempt.outcome for attempt in clockless.record("a").attempts] == ["completed"]


def test_race_owner_dies_without_ages(clockless: Cluster) -> None:
    """A record that stays unchanged for its own lease is stale: the worker that waited takes the job."""
    clockless.submit("a")
    node = FaultyNode(clockless.clock)
    thread = start(clockless, worker_on(node, clockless))
    clockless.clock.sleep(100)
    node.dead = True
    died_at = clockless.clock.monotonic()
    assert thread.join(100)
    clockless.clock.sleep(60)
    start(clockless, clockless.worker())
    while clockless.record("a").epoch == 1:
        clockless.clock.sleep(1)
    waited_s = clockless.clock.monotonic() - died_at
    assert 120 <= waited_s <= 122 + 121 + 5  # the delivery becomes visible, then one lease passes
    clockless.clock.sleep(600)
    assert [attempt.outcome for attempt in clockless.record("a").attempts] == ["vanished", "completed"]


def test_a_worker_serves_other_jobs_while_it_waits_for_an_age(clockless: Cluster) -> None:
    """The delivery whose job has an owner is kept, hidden and received once; other messages are served meanwhile."""
    clockless.submit("a")
    node = FaultyNode(clockless.clock)
    thread = start(clockless, worker_on(node, clockless))
    clockless.clock.sleep(100)
    node.dead = True
    assert thread.join(100)
    clockless.queue.purge()
    clockless.queue.send([announce(clockless.record("a"), 1)])
    worker = start(clockless, clockless.worker())
    clockless.clock.sleep(5)
    clockless.submit("b", "1\n20\n")
    clockless.clock.sleep(60)
    assert clockless.record("b").state is State.COMPLETED
    assert clockless.record("a").epoch == 1
    clockless.clock.sleep(60)
    assert clockless.record("a").epoch == 2
    assert [kept.receives for kept in clockless.queue._messages] == [1]
    clockless.clock.sleep(600)
    assert clockless.record("a").state is State.COMPLETED
    assert not worker.join(0)


def test_a_kept_delivery_of_a_living_owner_returns_to_the_queue(clockless: Cluster) -> None:
    """If the record has changed by the second read, the message is returned, hidden for one more lease."""
    clockless.submit("a", "1\n900\n")
    start(clockless, clockless.worker())
    clockless.clock.sleep(40)
    clockless.queue.send([announce(clockless.record("a"), 1)])
    start(clockless, clockless.worker())
    clockless.clock.sleep(300)
    assert clockless.record("a").epoch == 1
    assert [kept.receives for kept in clockless.queue._messages] == [1, 2]
