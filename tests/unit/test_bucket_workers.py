"""A worker without a bucket takes it from the SaladCloud demo's messages, and from no others."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.cluster import LAYOUT, Cluster
from support.fault_injection import unless_dead

from adapters.memory.store import MemoryStore
from client.config.no_bucket import NoBucket
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.ports.queue import Message
from lifecycle.ports.store import ABSENT, ObjectStore
from lifecycle.record.codec import decode_record
from lifecycle.record.message import announce
from lifecycle.states import State

Open = Callable[[str], ObjectStore]
NO_STORE: Any = NoBucket()


class Buckets:
    """Buckets by name, as the composition root opens them after the preflight check."""

    def __init__(self, cluster: Cluster, *names: str) -> None:
        self.stores = {name: MemoryStore(cluster.clock, write_gap_s=1.0) for name in names}
        self.opened = Counter[str]()
        self.errors: dict[str, Exception] = {}

    def open(self, name: str) -> ObjectStore:
        self.opened[name] += 1
        if name in self.errors:
            raise self.errors[name]
        return self.stores[name]

    def outcome(self, name: str, folder: str) -> tuple[str, str]:
        """Return the state and the sum of a job."""
        prefix, _, job = folder.rpartition("/")
        stored = self.stores[name].get(f"{prefix}/.holdfast/records/{job}.json")
        output = self.stores[name].get(f"{folder}/output/output.txt")
        assert stored is not None
        return decode_record(stored.body).state, output.body.decode().strip() if output else ""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def submit(cluster: Cluster, buckets: Buckets, bucket: str, folder: str) -> None:
    """Send a message as the demo's client does, for an input in *bucket*."""
    if bucket in buckets.stores:
        buckets.stores[bucket].put(f"{folder}/input.txt", b"1\n300")
    body = json.dumps({"bucket": bucket, "folder": folder, "parameters": {}})
    cluster.queue.send([Message(body=body, job=folder, dedup=f"{bucket}/{folder}")])


def test_each_message_is_done_in_the_bucket_that_it_names(cluster: Cluster) -> None:
    """Jobs of two buckets are done, pauses and second messages included, and each bucket is checked once."""
    buckets = Buckets(cluster, "one", "two")
    for bucket in buckets.stores:
        for job in ("runs/a", "runs/b"):
            submit(cluster, buckets, bucket, job)
    cluster.worker(store=NO_STORE, open_bucket=buckets.open, max_running_time=timedelta(seconds=200)).run()
    assert [buckets.outcome(bucket, job) for bucket in buckets.stores for job in ("runs/a", "runs/b")] == [
        (State.COMPLETED, "45150")
    ] * 4
    assert buckets.opened == {"one": 1, "two": 1}
    assert cluster.queue.depth().available == cluster.queue.depth().in_flight == 0


def test_a_message_that_names_no_bucket_stays_in_the_queue(cluster: Cluster) -> None:
    """Such a message is for a worker with a bucket: it is returned, not deleted, and opens no bucket."""
    buckets = Buckets(cluster, "one")
    submit(cluster, buckets, "one", "runs/a")
    record = JobRecord("b", "series-sum", dispatch=1)
    cluster.record_store.write(LAYOUT.job("b").record, record, ABSENT)
    cluster.queue.send([announce(record, 1)])
    cluster.worker(store=NO_STORE, open_bucket=buckets.open).run()
    assert buckets.outcome("one", "runs/a") == (State.COMPLETED, "45150")
    assert buckets.opened == {"one": 1}
    cluster.clock.sleep(1000)
    cluster.memory.put(f"{LAYOUT.job('b').input}input.txt", b"1\n300\n")
    cluster.worker().run()
    assert cluster.record("b").state is State.COMPLETED


@pytest.mark.parametrize("error", [ConfigError("NoSuchBucket"), RetryableError("down")])
def test_a_bucket_that_cannot_be_used_stops_no_other(cluster: Cluster, error: Exception) -> None:
    """A message that names such a bucket is returned, and the jobs of other buckets are done."""
    buckets = Buckets(cluster, "one", "two")
    buckets.errors["two"] = error
    submit(cluster, buckets, "one", "runs/a")
    submit(cluster, buckets, "two", "runs/b")
    submit(cluster, buckets, "one", "runs/c")
    cluster.worker(store=NO_STORE, open_bucket=buckets.open).run()
    assert buckets.outcome("one", "runs/a") == buckets.outcome("one", "runs/c") == (State.COMPLETED, "45150")
    del buckets.errors["two"]
    cluster.clock.sleep(1000)
    cluster.worker(store=NO_STORE, open_bucket=buckets.open).run()
    assert buckets.outcome("two", "runs/b") == (State.COMPLETED, "45150")


def test_keys_that_open_no_bucket_end_the_worker(cluster: Cluster) -> None:
    """If no bucket could ever be used, the keys are wrong: the worker ends, and the message stays."""
    buckets = Buckets(cluster, "one")
    buckets.errors["one"] = ConfigError("wrong key")
    submit(cluster, buckets, "one", "runs/a")
    with pytest.raises(ConfigError, match="wrong key"):
        cluster.worker(store=NO_STORE, open_bucket=buckets.open, idle_exit=timedelta(0)).run()
    depth = cluster.queue.depth()
    assert depth.available + depth.in_flight + depth.delayed == 1


def test_such_a_worker_is_drained_like_any_other(cluster: Cluster) -> None:
    """A drained worker saves and releases the job of whatever bucket it runs."""
    buckets = Buckets(cluster, "one")
    submit(cluster, buckets, "one", "runs/a")
    worker = cluster.worker(store=NO_STORE, open_bucket=buckets.open, idle_exit=timedelta(0))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    worker.drain()
    assert thread.join(100)
    assert buckets.outcome("one", "runs/a") == (State.RELEASED, "")


def test_the_number_of_attempts_counts_for_all_buckets(cluster: Cluster) -> None:
    """`--max-jobs` limits the attempts of the node, not those of each bucket."""
    buckets = Buckets(cluster, "one", "two")
    submit(cluster, buckets, "one", "runs/a")
    submit(cluster, buckets, "two", "runs/b")
    cluster.worker(store=NO_STORE, open_bucket=buckets.open, max_jobs=2).run()
    assert buckets.outcome("one", "runs/a")[0] == buckets.outcome("two", "runs/b")[0] == State.COMPLETED
    submit(cluster, buckets, "one", "runs/c")
    submit(cluster, buckets, "two", "runs/d")
    cluster.worker(store=NO_STORE, open_bucket=buckets.open, max_jobs=1).run()
    assert cluster.queue.depth().available == 1
