"""Every race that docs/protocol.md names, with the real worker on in-memory ports and virtual time."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultInjection, FaultyNode, unless_dead

from lifecycle.attempt.outcome import FIRST_DELAY
from lifecycle.attempt.worker import Worker
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.key_layout import epoch_of
from lifecycle.ports.clock import Thread
from lifecycle.ports.queue import Message, SendFailure
from lifecycle.record.message import announce
from lifecycle.states import State

RECORD = LAYOUT.job("a").record


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def start(cluster: Cluster, worker: Worker) -> Thread:
    """Run *worker* in a thread."""
    return cluster.clock.start_thread(unless_dead(worker.run), name="worker")


def faulty_node(cluster: Cluster, **limits: Any) -> tuple[FaultyNode, Worker]:
    """Return a node that the test can kill or suspend, and a worker on it."""
    node = FaultyNode(cluster.clock)
    ports = {"store": node.around(cluster.memory), "queue": node.around(cluster.queue), "clock": node.clock()}
    return node, cluster.worker(**{**ports, **limits})


def is_record_put(name: str, *args: Any, **_: Any) -> bool:
    return name == "put" and args[0] == RECORD


# ---- takeover ----


def test_race_owner_dies(cluster: Cluster) -> None:
    """The next worker takes over when the lease has expired, and not before, and resumes from the last commit."""
    cluster.submit("a")
    node, worker = faulty_node(cluster)
    thread = start(cluster, worker)
    cluster.clock.sleep(100)
    node.dead = True
    died_at = cluster.clock.monotonic()
    assert thread.join(100)
    start(cluster, cluster.worker())
    while cluster.record("a").epoch == 1:
        cluster.clock.sleep(1)
    waited_s = cluster.clock.monotonic() - died_at
    assert 120 - 30 <= waited_s <= 125 + 5
    cluster.clock.sleep(600)
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["vanished", "completed"]
    assert record.attempts[1].resumed_step == 60
    assert record.interruptions == {"node_lost": 1}
    assert record.deaths == 0
    assert cluster.output("a") == "45150"


def test_race_owner_reaches_only_the_queue(cluster: Cluster) -> None:
    """An owner that cannot renew its lease does not keep its message from the others beyond that lease."""
    cluster.submit("a", "1\n5000\n")
    down_at = 100.0

    def fail(*_: Any, **__: Any) -> None:
        if cluster.clock.monotonic() > down_at:
            raise RetryableError("no route to host")

    start(cluster, cluster.worker(store=FaultInjection(cluster.memory, before=fail)))
    cluster.clock.sleep(down_at)
    start(cluster, cluster.worker())
    while cluster.record("a").epoch == 1:
        cluster.clock.sleep(1)
    assert cluster.clock.monotonic() - down_at <= 120 + 5


def test_race_zombie_wakes(cluster: Cluster) -> None:
    """A node that was suspended beyond its lease finds another epoch, and changes nothing of its successor."""
    cluster.submit("a")
    node, zombie = faulty_node(cluster)
    thread = start(cluster, zombie)
    cluster.clock.sleep(100)
    node.suspended = True
    second = cluster.worker(max_jobs=1)
    assert start(cluster, second).join(1000)
    finished = {listed.key: listed.version for listed in cluster.memory.list("")}
    assert cluster.record("a").state is State.COMPLETED
    node.calls.clear()
    node.suspended = False
    zombie.drain()
    assert thread.join(1000)
    assert {listed.key: listed.version for listed in cluster.memory.list("")}.items() >= finished.items()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["vanished", "completed"]
    written = [key for name, key in node.calls if name in {"put", "put_file", "delete", "assemble"} and key != RECORD]
    assert all(epoch_of(str(key)) in {1, None} for key in written)


def test_race_zombie_publishes_nothing(cluster: Cluster) -> None:
    """A superseded attempt whose workload finishes does not publish: publishing follows a write of the record."""
    cluster.submit("a", "1\n110\n")
    node, zombie = faulty_node(cluster)
    thread = start(cluster, zombie)
    cluster.clock.sleep(100)
    node.suspended = True
    cluster.clock.sleep(200)
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, epoch=2, owner="other"), stored.version)
    node.suspended = False
    zombie.drain()
    assert thread.join(1000)
    assert cluster.output("a") is None
    assert cluster.record("a").epoch == 2
    assert cluster.record("a").owner == "other"


def test_race_two_workers_take_one_job(cluster: Cluster) -> None:
    """If two workers see the same free job, one compare-and-swap succeeds, and the other worker returns its message."""
    cluster.submit("a")
    cluster.queue.send([announce(cluster.record("a"), 1)])
    reads = 0

    def wait_for_both(name: str, *args: Any, **_: Any) -> None:
        nonlocal reads
        if name == "get" and args[0] == RECORD and reads < 2:
            reads += 1
            while reads < 2:
                cluster.clock.sleep(0.5)

    store = FaultInjection(cluster.memory, after=wait_for_both)
    threads = [start(cluster, cluster.worker(store=store)) for _ in range(2)]
    assert all(thread.join(5000) for thread in threads)
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert [attempt.epoch for attempt in record.attempts] == [1]


def test_race_duplicate_delivery(cluster: Cluster) -> None:
    """A second delivery while the owner lives is hidden for the rest of the lease and starts nothing."""
    cluster.submit("a")
    cluster.queue.send([announce(cluster.record("a"), 1)])
    threads = [start(cluster, cluster.worker()) for _ in range(2)]
    cluster.clock.sleep(50)
    assert cluster.queue.depth().in_flight == 2
    assert all(thread.join(5000) for thread in threads)
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]


def test_race_old_message(cluster: Cluster) -> None:
    """A message that is known to have been followed by another is deleted and starts nothing."""
    cluster.submit("a")
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, dispatch=2), stored.version)
    cluster.worker().run()
    assert cluster.record("a").epoch == 0
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


# ---- the record ----


@pytest.mark.parametrize("number", range(1, 9))
def test_race_answer_lost(cluster: Cluster, number: int) -> None:
    """A write of the record whose answer is lost is recognized by its write_id, and made once."""
    cluster.submit("a")
    puts = 0

    def lose(name: str, *args: Any, **kwargs: Any) -> None:
        nonlocal puts
        if is_record_put(name, *args):
            puts += 1
            if puts == number:
                raise RetryableError("the answer was lost")

    cluster.worker(store=FaultInjection(cluster.memory, after=lose)).run()
    record = cluster.record("a")
    assert puts >= number
    assert record.state is State.COMPLETED
    assert [attempt.outcome for attempt in record.attempts] == ["completed"]
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("number", range(2, 9))
def test_race_answer_and_read_back_lost(cluster: Cluster, number: int) -> None:
    """If reading back fails too, the outcome is unknown; the checkpoint never moves back, and the job goes on."""
    cluster.submit("a")
    puts, blind_until, steps = 0, 0.0, list[int]()

    def lose(name: str, *args: Any, **kwargs: Any) -> None:
        nonlocal puts, blind_until
        if is_record_put(name, *args):
            puts += 1
            checkpoint = cluster.record("a").checkpoint
            steps.append((checkpoint.step or 0) if checkpoint else 0)
            if puts == number:
                blind_until = cluster.clock.monotonic() + 20
                raise RetryableError("the answer was lost")

    def blind(name: str, *args: Any, **kwargs: Any) -> None:
        if cluster.clock.monotonic() < blind_until and args[0] == RECORD:
            raise RetryableError("no answer, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=blind, after=lose)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert len(cluster.record("a").attempts) == 1
    assert steps == sorted(steps)
    assert cluster.output("a") == "45150"


def test_race_operator_writes_between_two_writes(cluster: Cluster) -> None:
    """An operator's write between two of the owner's is merged, and neither loses a change."""
    cluster.submit("a")
    store = FaultInjection(cluster.memory)
    has_written = False

    def write_between(name: str, *args: Any, **_: Any) -> None:
        nonlocal has_written
        if is_record_put(name, *args) and cluster.record("a").checkpoint and not has_written:
            has_written = True
            cluster.clock.sleep(1.1)
            stored = cluster.stored("a")
            cluster.record_store.write(
                RECORD, evolve(stored.record, unknown={"note": "by an operator"}), stored.version
            )
            cluster.clock.sleep(1.1)

    store.before = write_between
    cluster.worker(store=store).run()
    assert has_written
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.record("a").unknown == {"note": "by an operator"}


def test_race_record_removed(cluster: Cluster) -> None:
    """An owner whose record is purged stops at its next heartbeat and does not recreate the record."""
    cluster.submit("a")
    thread = start(cluster, cluster.worker(max_jobs=1))
    cluster.clock.sleep(100)
    cluster.memory.delete([RECORD])
    assert thread.join(31)
    assert cluster.memory.get(RECORD) is None


def test_race_record_removed_and_recreated(cluster: Cluster) -> None:
    """If a job is purged, resubmitted and taken between two heartbeats, its first owner ends at the same epoch."""
    cluster.submit("a")
    written: list[str] = []

    def note(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and epoch_of(str(args[0])):
            written.append(args[0])

    store = FaultInjection(cluster.memory, before=note)
    first, second = cluster.worker(store=store, max_jobs=1), cluster.worker(store=store)
    threads = [start(cluster, first)]
    cluster.clock.sleep(95)
    cluster.memory.delete([RECORD])
    cluster.queue.purge()
    cluster.submit("a")
    threads.append(start(cluster, second))
    cluster.clock.sleep(15)
    assert (cluster.record("a").epoch, cluster.record("a").owner) == (1, "node2")
    cluster.clock.sleep(20)
    assert threads[0].join(1)
    cluster.clock.sleep(400)
    record = cluster.record("a")
    assert [(attempt.node, attempt.outcome, attempt.steps) for attempt in record.attempts] == [
        ("node2", "completed", 300)
    ]
    assert cluster.output("a") == "45150"
    log = cluster.memory.get(LAYOUT.job("a").log(1))
    assert log is not None
    assert b"node1" not in log.body
    second.drain()
    assert threads[1].join(1000)
    assert len(written) == len(set(written)) > 10
    assert {epoch_of(key) for key in written} == {1}


# ---- checkpoints ----


def interrupt_after(cluster: Cluster, seconds: float) -> None:
    """Let a node die after *seconds*, and its lease expire."""
    node, worker = faulty_node(cluster)
    thread = start(cluster, worker)
    cluster.clock.sleep(seconds)
    node.dead = True
    assert thread.join(100)
    cluster.clock.sleep(130)


@pytest.mark.parametrize("part", ["/records/", "/checkpoints/", "/packs/", "/input/"])
def test_race_checkpoint_unreadable(cluster: Cluster, part: str) -> None:
    """If an object cannot be read for a while, the job is released and tried again; it never starts from zero."""
    cluster.submit("a")
    interrupt_after(cluster, 100)
    broken_until = cluster.clock.monotonic() + 200

    def fail(name: str, *args: Any, **_: Any) -> None:
        if name in {"get", "get_range"} and part in str(args[0]) and cluster.clock.monotonic() < broken_until:
            raise RetryableError("500")

    cluster.worker(store=FaultInjection(cluster.memory, before=fail)).run()
    record = cluster.record("a")
    outcomes = [attempt.outcome for attempt in record.attempts]
    assert outcomes[0] == "vanished"
    assert outcomes[-1] == "completed"
    assert set(outcomes[1:-1]) <= {"unreadable"}
    assert record.attempts[-1].resumed_step == 60


@pytest.mark.parametrize("part", ["checkpoints", "packs"])
@pytest.mark.parametrize("damage", ["wrong byte", "missing", "cut short"])
def test_race_checkpoint_damaged(cluster: Cluster, part: str, damage: str) -> None:
    """Instead of a damaged checkpoint, the one before it is restored."""
    cluster.submit("a")
    interrupt_after(cluster, 130)
    checkpoint = cluster.record("a").checkpoint
    assert checkpoint is not None
    assert checkpoint.step == 120
    key = (
        checkpoint.manifest
        if part == "checkpoints"
        else max(key for key in cluster.keys_of("a") if "/packs/e1/" in key)
    )
    body = cluster.memory.get(key)
    assert body is not None
    cluster.memory.delete([key])
    if damage != "missing":
        cluster.memory.put(key, body.body[:-1] + (b"x" if damage == "wrong byte" else b""))
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == 60
    assert cluster.output("a") == "45150"


def test_race_all_checkpoints_damaged(cluster: Cluster) -> None:
    """If every checkpoint is damaged, the job fails with that reason; it is not silently started from zero."""
    cluster.submit("a")
    interrupt_after(cluster, 130)
    cluster.memory.delete([key for key in cluster.keys_of("a") if "/packs/" in key])
    cluster.worker().run()
    assert cluster.record("a").state is State.FAILED
    assert "no checkpoint is sound" in (cluster.record("a").error or "")


def test_race_store_down_for_an_hour(cluster: Cluster) -> None:
    """A node that cannot reach the store goes on computing, and commits when the store is back."""
    cluster.submit("a", "1\n5000\n")
    down = (100.0, 3700.0)

    def fail(*_: Any, **__: Any) -> None:
        if down[0] < cluster.clock.monotonic() < down[1]:
            raise RetryableError("no route to host")

    cluster.worker(store=FaultInjection(cluster.memory, before=fail)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["completed"]
    assert cluster.output("a") == str(sum(range(1, 5001)))


def test_race_credentials_refused_for_a_while(cluster: Cluster) -> None:
    """A temporary refusal of the credentials costs no computed work."""
    cluster.submit("a")
    refused = (50.0, 130.0)

    def deny(*_: Any, **__: Any) -> None:
        if refused[0] < cluster.clock.monotonic() < refused[1]:
            raise ConfigError("403")

    ports = {"store": FaultInjection(cluster.memory, before=deny), "queue": FaultInjection(cluster.queue, before=deny)}
    cluster.worker(**ports).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]
    assert cluster.output("a") == "45150"


def test_a_queue_that_refuses_for_long_ends_the_worker(cluster: Cluster) -> None:
    """If the queue refuses the credentials for two minutes, the worker ends with an error."""

    def deny(*_: Any, **__: Any) -> None:
        raise ConfigError("403")

    with pytest.raises(ConfigError):
        cluster.worker(queue=FaultInjection(cluster.queue, before=deny)).run()
    assert cluster.clock.monotonic() > 120


@pytest.mark.parametrize("call", ["get", "put"])
def test_race_record_refused_for_a_while(cluster: Cluster, call: str) -> None:
    """If the bucket refuses the credentials while a job is being taken, its message returns and it is taken later."""
    cluster.submit("a")

    def deny(name: str, *args: Any, **_: Any) -> None:
        if name == call and args[0] == RECORD and cluster.clock.monotonic() < denied_until:
            raise ConfigError("403")

    denied_until = cluster.clock.monotonic() + 100
    cluster.worker(store=FaultInjection(cluster.memory, before=deny)).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("call", ["get", "put"])
def test_a_bucket_that_refuses_for_long_ends_the_worker(cluster: Cluster, call: str) -> None:
    """If the bucket refuses the credentials for two minutes, the worker ends and leaves the job to another worker."""
    cluster.submit("a")

    def deny(name: str, *args: Any, **_: Any) -> None:
        if name == call and args[0] == RECORD:
            raise ConfigError("403")

    with pytest.raises(ConfigError):
        cluster.worker(store=FaultInjection(cluster.memory, before=deny)).run()
    assert cluster.clock.monotonic() > 120
    assert cluster.record("a").epoch == 0
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_occasional_refusals_of_the_queue_do_not_end_the_worker(cluster: Cluster) -> None:
    """A successful call resets the time for which the queue may refuse."""

    def deny(*_: Any, **__: Any) -> None:
        if cluster.clock.monotonic() % 110 < 100:
            raise ConfigError("403")

    cluster.worker(queue=FaultInjection(cluster.queue, before=deny)).run()
    assert cluster.clock.monotonic() >= 600  # after ten idle minutes


@pytest.mark.parametrize("call", ["get", "put"])
def test_occasional_refusals_of_the_bucket_do_not_end_the_worker(cluster: Cluster, call: str) -> None:
    """A successful read or take resets the time for which the bucket may refuse."""
    jobs = [f"job{number:02d}" for number in range(20)]
    for job in jobs:
        cluster.submit(job, "1\n2\n")

    def deny(name: str, *args: Any, **_: Any) -> None:
        is_meant = name == call and "/records/" in args[0] and (name == "get" or b'"received"' in args[1])
        if is_meant and cluster.clock.monotonic() % 110 < 100:
            raise ConfigError("403")

    cluster.worker(store=FaultInjection(cluster.memory, before=deny)).run()
    assert {cluster.record(job).state for job in jobs} == {State.COMPLETED}
    assert cluster.clock.monotonic() > 600


def test_race_heartbeat_after_a_release(cluster: Cluster) -> None:
    """After a release no heartbeat extends the message's visibility timeout, which would delay the next worker."""
    cluster.submit("a")
    released: list[float] = []

    def slow(name: str, *_: Any, **__: Any) -> None:
        if name == "release":
            released.append(cluster.clock.monotonic())
            cluster.clock.sleep(100)

    fails = cluster.worker(
        queue=FaultInjection(cluster.queue, after=slow),
        script=lambda _, step: 3 if step == 50 else None,
        heartbeat=timedelta(seconds=5),
        max_jobs=1,
    )
    thread = cluster.clock.start_thread(unless_dead(fails.run), name="worker")
    cluster.clock.sleep(50 + FIRST_DELAY.total_seconds() + 10)
    assert released
    assert cluster.queue.depth().available == 1
    assert thread.join(1000)


def test_race_cancelled_owner_vanished(cluster: Cluster) -> None:
    """If the owner of a cancelled job vanishes, the next worker cancels the job and starts nothing."""
    keys = cluster.submit("a")
    stored = cluster.stored("a")
    control = evolve(stored.record.control, cancel=True)
    asked = evolve(stored.record, state=State.RUNNING, epoch=1, owner="gone", lease_s=20.0, control=control)
    cluster.clock.sleep(2)
    cluster.record_store.write(keys.record, asked, stored.version)
    cluster.worker(max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.CANCELLED
    assert (record.attempts[-1].steps, record.attempts[-1].useful_s) == (0, 0.0)
    assert cluster.memory.get(f"{keys.output}output.txt") is None


def test_race_drained_while_a_record_is_read(cluster: Cluster) -> None:
    """If the signal arrives after the worker's check and before an attempt exists, the job is still released."""
    cluster.submit("a")
    signals = [1]

    def drain(name: str, *args: Any, **_: Any) -> None:
        if name == "get" and args[0] == RECORD and signals:
            signals.pop()
            worker.drain()

    worker = cluster.worker(store=FaultInjection(cluster.memory, before=drain))
    worker.run()
    assert cluster.clock.monotonic() < 20
    assert cluster.record("a").state is State.RELEASED
    assert cluster.queue.depth().available == 1


def test_race_drained_while_a_message_is_received(cluster: Cluster) -> None:
    """If the signal arrives during a receive, the message is returned at once, and the job is not taken."""
    cluster.submit("a")

    def drain(name: str, *_: Any, **__: Any) -> None:
        if name == "receive":
            worker.drain()

    worker = cluster.worker(queue=FaultInjection(cluster.queue, after=drain))
    worker.run()
    assert cluster.record("a").epoch == 0
    assert cluster.queue.depth().available == 1


def test_a_record_that_cannot_be_read_is_tried_again_soon(cluster: Cluster) -> None:
    """If a record cannot be read, its message returns soon, however long the lease."""
    cluster.submit("a", "1\n3\n")

    def fail(name: str, *args: Any, **_: Any) -> None:
        if name == "get" and args[0] == RECORD and cluster.clock.monotonic() < 10:
            raise RetryableError("503")

    worker = cluster.worker(
        store=FaultInjection(cluster.memory, before=fail), lease=timedelta(hours=2), idle_exit=timedelta(minutes=2)
    )
    worker.run()
    assert cluster.output("a") == "6"


def test_the_message_of_an_owned_job_returns_when_the_lease_expires(cluster: Cluster) -> None:
    """The message of an owned job returns when the owner's lease expires, independently of our own lease."""
    keys = cluster.submit("a", "1\n3\n")
    stored = cluster.stored("a")
    owned = evolve(stored.record, state=State.RUNNING, epoch=1, owner="gone", lease_s=60.0)
    cluster.clock.sleep(2)
    cluster.record_store.write(keys.record, owned, stored.version)
    cluster.worker(lease=timedelta(hours=2), idle_exit=timedelta(minutes=2)).run()
    assert cluster.output("a") == "6"
    assert cluster.clock.monotonic() < 62 + 20 + 120


def test_two_refusals_an_hour_apart_do_not_end_the_worker(cluster: Cluster) -> None:
    """Two refusals an hour apart, without a message in between, do not count as an hour of refusals."""

    def deny(name: str, *args: Any, **_: Any) -> None:
        if name == "get" and args[0] == RECORD and denied:
            denied.pop()
            raise ConfigError("403")

    denied = [True]
    worker = cluster.worker(store=FaultInjection(cluster.memory, before=deny), idle_exit=timedelta(hours=2))
    cluster.submit("a")
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(10)
    cluster.queue.purge()
    cluster.clock.sleep(3600)
    denied = [True]
    cluster.queue.send([announce(cluster.record("a"), 2)])
    cluster.clock.sleep(400)
    assert cluster.output("a") == "45150"
    worker.drain()
    assert thread.join(1000)


def test_race_gc_is_bounded_by_epoch(cluster: Cluster) -> None:
    """Garbage collection removes no key of a later epoch."""
    keys = cluster.submit("a")
    later = [keys.pack(7, 1, "theirs"), keys.manifest(7, 1, "theirs")]
    for key in later:
        cluster.memory.put(key, b"a successor's")
    orphan = keys.pack(0, 1, "orphan")
    cluster.memory.put(orphan, b"an orphan")
    cluster.worker().run()
    left = set(cluster.keys_of("a"))
    assert left >= set(later)
    assert orphan not in left


def test_race_manifest_of_a_failed_upload_arrives_late(cluster: Cluster) -> None:
    """A manifest that arrives after its retry is committed has another number, and does not affect the commit."""
    cluster.submit("a")
    tried: list[str] = []

    def refuse_first_of_the_last(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0].startswith(LAYOUT.job("a").manifests) and cluster.clock.monotonic() > leaving_at:
            tried.append(args[0])
            if len(tried) < 3:
                raise RetryableError("timeout, on purpose")

    leaving_at = cluster.clock.monotonic() + 100
    worker = cluster.worker(store=FaultInjection(cluster.memory, before=refuse_first_of_the_last))
    thread = start(cluster, worker)
    cluster.clock.sleep(100.5)
    worker.drain()
    assert thread.join(100)
    committed = cluster.record("a").checkpoint
    assert committed is not None
    assert (committed.manifest, len(set(tried))) == (tried[2], 3)
    for key in tried[:2]:
        cluster.memory.put(key, b"late")
    cluster.worker().run()
    assert cluster.record("a").attempts[1].resumed_step == committed.step
    assert cluster.output("a") == "45150"


def test_every_object_that_the_record_names_always_exists(cluster: Cluster) -> None:
    """Neither a commit nor the garbage collection after it leaves the record with a missing object."""
    cluster.submit("a")

    def check(*_: Any, **__: Any) -> None:
        record = cluster.record("a")
        for ref in filter(None, (record.checkpoint, record.fallback)):
            stored = cluster.memory.get(ref.manifest)
            assert stored, ref
            assert all(cluster.memory.get(pack) for pack, _ in json.loads(stored.body)["packs"])

    cluster.worker(store=FaultInjection(cluster.memory, after=check), max_running_time=timedelta(seconds=130)).run()
    assert cluster.record("a").state is State.COMPLETED


# ---- the queue ----


def test_race_crash_between_send_and_delete(cluster: Cluster) -> None:
    """A node that dies after sending the new message and before deleting the old one leaves two, which is harmless."""
    cluster.submit("a")

    def die(name: str, *_: Any, **__: Any) -> None:
        if name == "send":
            node.dead = True

    queue = FaultInjection(cluster.queue, after=die)
    node, worker = faulty_node(cluster, queue=queue, max_running_time=timedelta(seconds=100))
    queue.before = node.check_alive
    assert start(cluster, worker).join(1000)
    assert cluster.record("a").state is State.PAUSED_FOR_TIMEOUT
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 2
    cluster.worker().run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "completed"]
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


@pytest.mark.parametrize("call", ["put", "delete"])
def test_race_crash_between_completed_and_published(cluster: Cluster, call: str) -> None:
    """If a node dies after recording `completed`, the next receiver of the message publishes and then deletes it."""
    cluster.submit("a")

    def die_before(name: str, *args: Any, **__: Any) -> None:
        publishes = name == "put" and "/output/" in args[0]
        if (publishes or name == call == "delete") and cluster.record("a").state is State.COMPLETED:
            node.dead = True
        node.check_alive()

    node, worker = faulty_node(
        cluster,
        store=FaultInjection(cluster.memory, before=die_before),
        queue=FaultInjection(cluster.queue, before=die_before),
    )
    assert start(cluster, worker).join(1000)
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.queue.depth().in_flight == 1
    cluster.worker().run()
    assert cluster.output("a") == "45150"
    assert cluster.record("a").is_settled
    assert [attempt.epoch for attempt in cluster.record("a").attempts] == [1]
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_race_confirmed_extension_proves_nothing(cluster: Cluster) -> None:
    """A queue that confirms every extension does not keep a superseded attempt alive."""
    cluster.submit("a")
    worker = cluster.worker()
    thread = start(cluster, worker)
    cluster.clock.sleep(100)
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, epoch=2, owner="other"), stored.version)
    cluster.clock.sleep(60)
    assert cluster.record("a").epoch == 2
    worker.drain()
    assert thread.join(1000)
    assert cluster.record("a").owner == "other"
    assert cluster.output("a") is None


def test_consecutive_lost_attempts_fail_the_job(cluster: Cluster) -> None:
    """A job fails after MAX_DEATHS lost attempts in a row without a checkpoint, so it cannot kill nodes forever."""
    cluster.limits = evolve(cluster.limits, max_lost_attempts=3)
    cluster.submit("a", STATE_SAVING_INTERVAL=100_000)
    for _ in range(3):
        interrupt_after(cluster, 50)
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert record.deaths == 3
    assert record.interruptions == {"node_lost": 3}
    assert record.failures == 0


def test_a_checkpoint_resets_failures_and_lost_attempts(cluster: Cluster) -> None:
    """Only consecutive failures and lost attempts count; a checkpoint resets both."""
    cluster.submit("a")
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, failures=2, deaths=2), stored.version)
    node, worker = faulty_node(cluster)
    thread = start(cluster, worker)
    cluster.clock.sleep(50)
    assert (cluster.record("a").failures, cluster.record("a").deaths) == (2, 2)
    cluster.clock.sleep(20)
    assert (cluster.record("a").failures, cluster.record("a").deaths) == (0, 0)
    node.dead = True
    assert thread.join(100)


def test_an_attempt_lost_after_a_checkpoint_is_not_counted(cluster: Cluster) -> None:
    """Only attempts that vanish without a checkpoint count; one with a checkpoint lost an interval at most."""
    cluster.submit("a")
    for seconds, deaths in ((70, 0), (30, 1)):  # a checkpoint comes every minute
        node, worker = faulty_node(cluster)
        thread = start(cluster, worker)
        cluster.clock.sleep(seconds)
        node.dead = True
        assert thread.join(100)
        cluster.clock.sleep(130)
        node, worker = faulty_node(cluster)
        thread = start(cluster, worker)
        cluster.clock.sleep(10)
        assert cluster.record("a").deaths == deaths
        worker.drain()
        assert thread.join(100)


@pytest.mark.parametrize("how", ["refused", "unreachable"])
def test_no_message_is_deleted_before_the_next_is_sent(cluster: Cluster, how: str) -> None:
    """If the queue does not accept a pausing job's new message, the old one is kept, and the job resumes from it."""
    cluster.submit("a")

    class Refusing(FaultInjection):
        def send(self, messages: Sequence[Message]) -> list[SendFailure]:
            if how == "unreachable":
                raise RetryableError("503, on purpose")
            return [SendFailure(message, "refused, on purpose") for message in messages]

    cluster.worker(queue=Refusing(cluster.queue), max_running_time=timedelta(seconds=100), max_jobs=1).run()
    assert cluster.record("a").state is State.PAUSED_FOR_TIMEOUT
    assert cluster.queue.depth().available == 1
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_a_superseded_attempt_does_not_overwrite_the_demo_log(cluster: Cluster) -> None:
    """The demo's log has no epoch in its name, so a superseded attempt must not overwrite it."""
    cluster.memory.put("runs/a/input.txt", b"1\n300\n")
    body = json.dumps({"bucket": "", "folder": "runs/a", "parameters": {}})
    cluster.queue.send([Message(body=body, job="a", dedup="1")])
    node, zombie = faulty_node(cluster, max_jobs=1)
    thread = start(cluster, zombie)
    cluster.clock.sleep(100)
    node.suspended = True
    assert start(cluster, cluster.worker(max_jobs=1)).join(1000)
    log = cluster.memory.get("runs/a/logs.txt")
    assert log is not None
    assert b"The job is done" in log.body
    node.suspended = False
    assert thread.join(1000)
    after = cluster.memory.get("runs/a/logs.txt")
    assert after is not None
    assert after.body == log.body
