"""The exporter: its metrics, the cost of a scrape, and its behaviour on failures."""

import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.config.environment import Environment
from client.config.settings import from_environ
from client.operations.exporter import Exporter
from client.operations.exporter_sources import unsaved_s
from client.records.record_index import RecordIndex
from lifecycle.errors import RetryableError
from lifecycle.job_record import AttemptSummary, Backlog, CheckpointRef, JobRecord, iso
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.queue import Message
from lifecycle.ports.store import ListedObject
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State

EVERY = timedelta(seconds=15)


class Wayward(MemoryStore):
    """A store that counts its listings, and can fail or hang in them."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.listings = 0
        self.is_down = False
        self.gate = threading.Event()
        self.gate.set()

    def list(self, prefix: str) -> Iterator[ListedObject]:
        self.listings += 1
        self.gate.wait()
        if self.is_down:
            raise RetryableError("list: 503")
        return super().list(prefix)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Wayward:
    return Wayward(clock)


@pytest.fixture
def env(store: Wayward, clock: ManualClock) -> Environment:
    settings = from_environ({}, None)
    record_store = RecordStore(store, clock, random.Random(1))
    return Environment(settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(""), "", settings.limits())


@pytest.fixture
def exporter(env: Environment) -> Iterator[Exporter]:
    with RecordIndex(env, None) as index:
        exporter = Exporter(env, index, every=EVERY)
        yield exporter
        assert exporter.wait(10)


def put(env: Environment, record: JobRecord) -> None:
    env.store.put(env.layout.job(record.job).record, encode_record(record))


def scrape(exporter: Exporter) -> dict[str, float]:
    text = generate_latest(exporter.registry).decode()
    return {
        sample.name.removeprefix("holdfast_") + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("holdfast_")
    }


def owned(job: str, clock: ManualClock, **more: Any) -> JobRecord:
    attempt = AttemptSummary(1, "n", iso(clock.now()))
    return evolve(
        JobRecord(job, "w", state=State.RUNNING, epoch=1, owner="n", lease_s=120.0, attempts=(attempt,)), **more
    )


def test_metrics_of_jobs_and_queue(env: Environment, exporter: Exporter, clock: ManualClock) -> None:
    """The exporter sums jobs, bytes and messages, and shows the oldest wait, lease, checkpoint and backlog."""
    put(env, JobRecord("old", "w"))
    put(env, owned("lost", clock))
    clock.advance(1000)
    ref = CheckpointRef("m", "blake3:0", 1, bytes=500, at=iso(clock.now()))
    backlog = Backlog(70, iso(clock.now()))
    put(env, JobRecord("new", "w", state=State.RELEASED))
    put(env, owned("fine", clock, checkpoint=ref, backlog=backlog))
    put(env, JobRecord("bad", "w", state=State.FAILED, error="no"))
    env.store.put(env.layout.job("odd").record, b"not a record")
    env.store.put(f"{env.layout.rejected}1.json", b"{}")
    env.queue.send([Message("{}", "old", "old")])
    clock.advance(50)
    said = scrape(exporter)
    assert {state: said[f"jobs {state}"] for state in ("queued", "released", "running", "failed", "unknown")} == {
        "queued": 1,
        "released": 1,
        "running": 2,
        "failed": 1,
        "unknown": 1,
    }
    assert said["jobs completed"] == 0, "a state without jobs is 0, not absent"
    assert said["jobs_stale"] == 1
    assert said["jobs_waiting_age_seconds"] == said["jobs_lease_age_seconds"] == 1050
    assert said["jobs_checkpoint_age_seconds"] == 1050
    assert (said["jobs_checkpoint_bytes"], said["jobs_backlog_bytes"]) == (500, 70)
    assert said["jobs_backlog_age_seconds"] == 50
    assert said["queue_messages available"] == 1
    assert said["rejected_messages"] == 1
    assert said["exporter_up bucket"] == said["exporter_up queue"] == 1
    assert "dead_letters" not in said, "there is no such queue"


def test_many_scrapes_cost_one_refresh(exporter: Exporter, store: Wayward, clock: ManualClock) -> None:
    """Scrapes within the interval share one reading of the bucket."""
    for _ in range(5):
        scrape(exporter)
    assert store.listings == 2, "records, and rejected messages"
    clock.advance(15)
    scrape(exporter)
    assert store.listings == 4


def test_a_failing_bucket_keeps_its_last_values(
    env: Environment, exporter: Exporter, store: Wayward, clock: ManualClock
) -> None:
    """If the bucket fails, its last values are kept with their age, and the queue is still read."""
    put(env, JobRecord("a", "w"))
    scrape(exporter)
    store.is_down = True
    env.queue.send([Message("{}", "a", "a")])
    clock.advance(60)
    said = scrape(exporter)
    assert (said["exporter_up bucket"], said["exporter_up queue"]) == (0, 1)
    assert (said["exporter_age_seconds bucket"], said["exporter_age_seconds queue"]) == (60, 0)
    assert said["exporter_failures_total bucket"] == 1
    assert (said["jobs queued"], said["queue_messages available"]) == (1, 1)
    store.is_down = False
    clock.advance(60)
    assert scrape(exporter)["exporter_up bucket"] == 1


def test_a_bucket_that_was_never_read_has_no_values(exporter: Exporter, store: Wayward) -> None:
    """Until the bucket has been read, there are no metrics of jobs, not even zeros."""
    store.is_down = True
    said = scrape(exporter)
    assert said["exporter_up bucket"] == 0
    assert not [name for name in said if name.startswith("jobs")]
    assert "exporter_age_seconds bucket" not in said


def test_a_scrape_does_not_wait_for_a_bucket_that_hangs(env: Environment, store: Wayward, clock: ManualClock) -> None:
    """A scrape returns the last values while a reading hangs, and starts no second one."""
    with RecordIndex(env, None) as index:
        exporter = Exporter(env, index, every=EVERY, patience_s=0.01)
        assert exporter.wait(0)
        put(env, JobRecord("a", "w"))
        scrape(exporter)
        assert exporter.wait(10)
        store.gate.clear()
        clock.advance(20)
        before = store.listings
        for _ in range(3):
            assert scrape(exporter)["jobs queued"] == 1
            clock.advance(20)
        store.gate.set()
        assert exporter.wait(10)
        assert store.listings == before + 2


def test_a_paused_job_is_not_behind(clock: ManualClock) -> None:
    """Unsaved time counts from the start of the attempt if that is later than the last commit."""
    ref = CheckpointRef("m", "blake3:0", 1, at=iso(clock.now()))
    clock.advance(7 * 86400)
    record = owned("a", clock, checkpoint=ref)
    clock.advance(30)
    assert unsaved_s(record, clock.now()) == 30
