"""Every race that docs/protocol.md names, on the real worker over memory, on virtual time."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import Fate, FaultInjection, unless_dead

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


def go(cluster: Cluster, worker: Worker) -> Thread:
    return cluster.clock.start_thread(unless_dead(worker.run), name="worker")


def fated(cluster: Cluster, **limits: Any) -> tuple[Fate, Worker]:
    fate = Fate(cluster.clock)
    ports = {"store": fate.around(cluster.memory), "queue": fate.around(cluster.queue), "clock": fate.clock()}
    return fate, cluster.worker(**{**ports, **limits})


def is_record_put(name: str, *args: Any, **_: Any) -> bool:
    return name == "put" and args[0] == RECORD


# ---- take-over ----


def test_race_owner_dies(cluster: Cluster) -> None:
    """The next worker takes over when the lease has run out, not before, and goes on from the last commit."""
    cluster.submit("a")
    fate, worker = fated(cluster)
    thread = go(cluster, worker)
    cluster.clock.sleep(100)
    fate.dead = True
    died_at = cluster.clock.monotonic()
    assert thread.join(100)
    go(cluster, cluster.worker())
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


def test_race_zombie_wakes(cluster: Cluster) -> None:
    """A node that slept past its lease finds another epoch, ends, and has changed nothing of the other's."""
    cluster.submit("a")
    fate, zombie = fated(cluster)
    thread = go(cluster, zombie)
    cluster.clock.sleep(100)
    fate.asleep = True
    second = cluster.worker(max_jobs=1)
    assert go(cluster, second).join(1000)
    finished = {listed.key: listed.version for listed in cluster.memory.list("")}
    assert cluster.record("a").state is State.COMPLETED
    fate.calls.clear()
    fate.asleep = False
    zombie.drain()
    assert thread.join(1000)
    assert {listed.key: listed.version for listed in cluster.memory.list("")}.items() >= finished.items()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["vanished", "completed"]
    written = [key for name, key in fate.calls if name in {"put", "put_file", "delete", "assemble"} and key != RECORD]
    assert all(epoch_of(str(key)) in {1, None} for key in written)


def test_race_zombie_publishes_nothing(cluster: Cluster) -> None:
    """A superseded attempt whose workload finishes does not publish: publishing follows the record's CAS."""
    cluster.submit("a", "1\n110\n")
    fate, zombie = fated(cluster)
    thread = go(cluster, zombie)
    cluster.clock.sleep(100)
    fate.asleep = True
    cluster.clock.sleep(200)
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, epoch=2, owner="other"), stored.version)
    fate.asleep = False
    zombie.drain()
    assert thread.join(1000)
    assert cluster.output("a") is None
    assert cluster.record("a").epoch == 2
    assert cluster.record("a").owner == "other"


def test_race_two_takers(cluster: Cluster) -> None:
    """Two workers that both saw a free job: one compare-and-swap lands, the other hands its message back."""
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
    threads = [go(cluster, cluster.worker(store=store)) for _ in range(2)]
    assert all(thread.join(5000) for thread in threads)
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert [attempt.epoch for attempt in record.attempts] == [1]


def test_race_duplicate_delivery(cluster: Cluster) -> None:
    """A second delivery while the owner lives is hidden for what is left of the lease, and starts nothing."""
    cluster.submit("a")
    cluster.queue.send([announce(cluster.record("a"), 1)])
    threads = [go(cluster, cluster.worker()) for _ in range(2)]
    cluster.clock.sleep(50)
    assert cluster.queue.depth().in_flight == 2
    assert all(thread.join(5000) for thread in threads)
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]


def test_race_old_message(cluster: Cluster) -> None:
    """A message that is known to have been followed by another is deleted, and starts nothing."""
    cluster.submit("a")
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, dispatch=2), stored.version)
    cluster.worker().run()
    assert cluster.record("a").epoch == 0
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


# ---- the record ----


@pytest.mark.parametrize("number", range(1, 9))
def test_race_answer_lost(cluster: Cluster, number: int) -> None:
    """Whichever write to the record lands without an answer, it is known again by its write_id, and done once."""
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
    """If reading back fails too, the outcome is unknown: the checkpoint never goes back, and the job goes on."""
    cluster.submit("a")
    puts, blind_until, steps = 0, 0.0, []

    def lose(name: str, *args: Any, **kwargs: Any) -> None:
        nonlocal puts, blind_until
        if is_record_put(name, *args):
            puts += 1
            checkpoint = cluster.record("a").checkpoint
            steps.append(checkpoint.step if checkpoint else 0)
            if puts == number:
                blind_until = cluster.clock.monotonic() + 20
                raise RetryableError("the answer was lost")

    def blind(name: str, *args: Any, **kwargs: Any) -> None:
        if cluster.clock.monotonic() < blind_until and args[0] == RECORD:
            raise RetryableError("nobody answers")

    cluster.worker(store=FaultInjection(cluster.memory, before=blind, after=lose)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert len(cluster.record("a").attempts) == 1
    assert steps == sorted(steps)
    assert cluster.output("a") == "45150"


def test_race_operator_gets_in_between(cluster: Cluster) -> None:
    """An operator's write between two of the owner's is merged: neither loses what it wrote."""
    cluster.submit("a")
    store = FaultInjection(cluster.memory)
    meddled = False

    def meddle(name: str, *args: Any, **_: Any) -> None:
        nonlocal meddled
        if is_record_put(name, *args) and cluster.record("a").checkpoint and not meddled:
            meddled = True
            cluster.clock.sleep(1.1)
            stored = cluster.stored("a")
            cluster.record_store.write(
                RECORD, evolve(stored.record, unknown={"note": "by an operator"}), stored.version
            )
            cluster.clock.sleep(1.1)

    store.before = meddle
    cluster.worker(store=store).run()
    assert meddled
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.record("a").unknown == {"note": "by an operator"}


def test_race_record_removed(cluster: Cluster) -> None:
    """An owner whose record is purged stops at its next beat, and does not bring it back."""
    cluster.submit("a")
    thread = go(cluster, cluster.worker(max_jobs=1))
    cluster.clock.sleep(100)
    cluster.memory.delete([RECORD])
    assert thread.join(31)
    assert cluster.memory.get(RECORD) is None


def test_race_record_removed_and_made_anew(cluster: Cluster) -> None:
    """Purged, submitted and taken again between two beats, the job is at the first owner's epoch: yet not its own."""
    cluster.submit("a")
    written: list[str] = []

    def note(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and epoch_of(str(args[0])):
            written.append(args[0])

    store = FaultInjection(cluster.memory, before=note)
    first, second = cluster.worker(store=store, max_jobs=1), cluster.worker(store=store)
    threads = [go(cluster, first)]
    cluster.clock.sleep(95)
    cluster.memory.delete([RECORD])
    cluster.queue.purge()
    cluster.submit("a")
    threads.append(go(cluster, second))
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


def interrupted_at(cluster: Cluster, seconds: float) -> None:
    """Let a node die after *seconds*, and its lease run out."""
    fate, worker = fated(cluster)
    thread = go(cluster, worker)
    cluster.clock.sleep(seconds)
    fate.dead = True
    assert thread.join(100)
    cluster.clock.sleep(130)


@pytest.mark.parametrize("what", ["/records/", "/checkpoints/", "/packs/", "/input/"])
def test_race_checkpoint_unreadable(cluster: Cluster, what: str) -> None:
    """What cannot be read for a while is waited for: the job is handed back, never started from zero."""
    cluster.submit("a")
    interrupted_at(cluster, 100)
    broken_until = cluster.clock.monotonic() + 200

    def fail(name: str, *args: Any, **_: Any) -> None:
        if name in {"get", "get_range"} and what in str(args[0]) and cluster.clock.monotonic() < broken_until:
            raise RetryableError("500")

    cluster.worker(store=FaultInjection(cluster.memory, before=fail)).run()
    record = cluster.record("a")
    outcomes = [attempt.outcome for attempt in record.attempts]
    assert outcomes[0] == "vanished"
    assert outcomes[-1] == "completed"
    assert set(outcomes[1:-1]) <= {"unreadable"}
    assert record.attempts[-1].resumed_step == 60


@pytest.mark.parametrize("what", ["checkpoints", "packs"])
@pytest.mark.parametrize("damage", ["wrong byte", "missing", "cut short"])
def test_race_checkpoint_damaged(cluster: Cluster, what: str, damage: str) -> None:
    """A damaged checkpoint is passed over for the one before it."""
    cluster.submit("a")
    interrupted_at(cluster, 130)
    checkpoint = cluster.record("a").checkpoint
    assert checkpoint is not None
    assert checkpoint.step == 120
    key = (
        checkpoint.manifest
        if what == "checkpoints"
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
    """If no checkpoint is sound, the job fails with the reason: it is never started from zero behind anyone's back."""
    cluster.submit("a")
    interrupted_at(cluster, 130)
    cluster.memory.delete([key for key in cluster.keys_of("a") if "/packs/" in key])
    cluster.worker().run()
    assert cluster.record("a").state is State.FAILED
    assert "no checkpoint is sound" in (cluster.record("a").error or "")


def test_race_store_down_for_an_hour(cluster: Cluster) -> None:
    """Without proof of loss the node computes on, and commits when the store is back."""
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
    """A key that is refused in the middle, and taken again later, costs nothing that was computed."""
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
    """A credential that stays wrong is an operator's business: the worker ends, and says so."""

    def deny(*_: Any, **__: Any) -> None:
        raise ConfigError("403")

    with pytest.raises(ConfigError):
        cluster.worker(queue=FaultInjection(cluster.queue, before=deny)).run()
    assert cluster.clock.monotonic() > 120


@pytest.mark.parametrize("call", ["get", "put"])
def test_race_record_refused_for_a_while(cluster: Cluster, call: str) -> None:
    """The bucket's key is being changed as a job is to be taken: it is handed back, and taken when that is over."""
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
    """And the job is another worker's, whose key is right: nothing was changed, and its message is there."""
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


def test_a_queue_that_refuses_now_and_then_ends_no_worker(cluster: Cluster) -> None:
    """What was taken in between begins the count anew."""

    def deny(*_: Any, **__: Any) -> None:
        if cluster.clock.monotonic() % 110 < 100:
            raise ConfigError("403")

    cluster.worker(queue=FaultInjection(cluster.queue, before=deny)).run()
    assert cluster.clock.monotonic() >= 600  # it was idle for ten minutes


@pytest.mark.parametrize("call", ["get", "put"])
def test_a_bucket_that_refuses_now_and_then_ends_no_worker(cluster: Cluster, call: str) -> None:
    """The same for records that are read, and for leases that are taken."""
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


def test_race_beat_after_a_hand_back(cluster: Cluster) -> None:
    """The heart has stopped by then: a beat would keep the message from whoever is to have it after a delay."""
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
    """The next one finds the request in the record, and starts nothing."""
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
    """The signal comes after the worker has looked for it, and before there is an attempt that could hear of it."""
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
    """It is another's at once, and the job is not begun."""
    cluster.submit("a")

    def drain(name: str, *_: Any, **__: Any) -> None:
        if name == "receive":
            worker.drain()

    worker = cluster.worker(queue=FaultInjection(cluster.queue, after=drain))
    worker.run()
    assert cluster.record("a").epoch == 0
    assert cluster.queue.depth().available == 1


def test_a_record_that_cannot_be_read_is_tried_again_soon(cluster: Cluster) -> None:
    """However long a lease is, and so a delivery's first invisibility."""
    cluster.submit("a", "1\n3\n")

    def fail(name: str, *args: Any, **_: Any) -> None:
        if name == "get" and args[0] == RECORD and cluster.clock.monotonic() < 10:
            raise RetryableError("503")

    worker = cluster.worker(
        store=FaultInjection(cluster.memory, before=fail), lease=timedelta(hours=2), idle_exit=timedelta(minutes=2)
    )
    worker.run()
    assert cluster.output("a") == "6"


def test_an_owned_job_is_looked_at_again_when_its_lease_runs_out(cluster: Cluster) -> None:
    """That of its owner, who may be gone, and not ours."""
    keys = cluster.submit("a", "1\n3\n")
    stored = cluster.stored("a")
    owned = evolve(stored.record, state=State.RUNNING, epoch=1, owner="gone", lease_s=60.0)
    cluster.clock.sleep(2)
    cluster.record_store.write(keys.record, owned, stored.version)
    cluster.worker(lease=timedelta(hours=2), idle_exit=timedelta(minutes=2)).run()
    assert cluster.output("a") == "6"
    assert cluster.clock.monotonic() < 62 + 20 + 120


def test_refusals_with_nothing_in_between_for_long_end_no_worker(cluster: Cluster) -> None:
    """A bucket is only asked when there is a message: two refusals an hour apart say nothing of the hour."""

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


def test_race_collection_is_bounded_by_epoch(cluster: Cluster) -> None:
    """A collecting owner touches no key of a later epoch, whoever may have written it."""
    keys = cluster.submit("a")
    later = [keys.pack(7, 1, "theirs"), keys.manifest(7, 1, "theirs")]
    for key in later:
        cluster.memory.put(key, b"a successor's")
    orphan = keys.pack(0, 1, "nobodys")
    cluster.memory.put(orphan, b"nobody's")
    cluster.worker().run()
    left = set(cluster.keys_of("a"))
    assert left >= set(later)
    assert orphan not in left


def test_race_manifest_of_a_failed_upload_comes_late(cluster: Cluster) -> None:
    """The store takes it after all, when the next try is committed: that one has another number, and is not touched."""
    cluster.submit("a")
    tried: list[str] = []

    def refuse_first_of_the_last(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0].startswith(LAYOUT.job("a").manifests) and cluster.clock.monotonic() > leaving_at:
            tried.append(args[0])
            if len(tried) < 3:
                raise RetryableError("timeout, on purpose")

    leaving_at = cluster.clock.monotonic() + 100
    worker = cluster.worker(store=FaultInjection(cluster.memory, before=refuse_first_of_the_last))
    thread = go(cluster, worker)
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


def test_every_object_that_the_record_names_exists_at_every_moment(cluster: Cluster) -> None:
    """Neither a commit nor the collection after it ever leaves the record pointing at nothing."""
    cluster.submit("a")

    def look(*_: Any, **__: Any) -> None:
        record = cluster.record("a")
        for ref in filter(None, (record.checkpoint, record.fallback)):
            stored = cluster.memory.get(ref.manifest)
            assert stored, ref
            assert all(cluster.memory.get(pack) for pack, _ in json.loads(stored.body)["packs"])

    cluster.worker(store=FaultInjection(cluster.memory, after=look), max_running_time=timedelta(seconds=130)).run()
    assert cluster.record("a").state is State.COMPLETED


# ---- the queue ----


def test_race_crash_between_send_and_delete(cluster: Cluster) -> None:
    """The fresh message is sent first; a node that dies before it deletes the old one leaves two, which is harmless."""
    cluster.submit("a")

    def die(name: str, *_: Any, **__: Any) -> None:
        if name == "send":
            fate.dead = True

    queue = FaultInjection(cluster.queue, after=die)
    fate, worker = fated(cluster, queue=queue, max_running_time=timedelta(seconds=100))
    queue.before = fate.meet
    assert go(cluster, worker).join(1000)
    assert cluster.record("a").state is State.PAUSED_FOR_TIMEOUT
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 2
    cluster.worker().run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "completed"]
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


@pytest.mark.parametrize("call", ["put", "delete"])
def test_race_crash_between_completed_and_published(cluster: Cluster, call: str) -> None:
    """Once the record says completed, whoever receives the message next publishes, and only then deletes it."""
    cluster.submit("a")

    def die_before(name: str, *args: Any, **__: Any) -> None:
        publishes = name == "put" and "/output/" in args[0]
        if (publishes or name == call == "delete") and cluster.record("a").state is State.COMPLETED:
            fate.dead = True
        fate.meet()

    fate, worker = fated(
        cluster,
        store=FaultInjection(cluster.memory, before=die_before),
        queue=FaultInjection(cluster.queue, before=die_before),
    )
    assert go(cluster, worker).join(1000)
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.queue.depth().in_flight == 1
    cluster.worker().run()
    assert cluster.output("a") == "45150"
    assert cluster.record("a").is_settled
    assert [attempt.epoch for attempt in cluster.record("a").attempts] == [1]
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_race_heartbeat_answer_is_no_proof(cluster: Cluster) -> None:
    """A queue that says yes to every extension does not keep a superseded attempt alive."""
    cluster.submit("a")
    worker = cluster.worker()
    thread = go(cluster, worker)
    cluster.clock.sleep(100)
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, epoch=2, owner="other"), stored.version)
    cluster.clock.sleep(60)
    assert cluster.record("a").epoch == 2
    worker.drain()
    assert thread.join(1000)
    assert cluster.record("a").owner == "other"
    assert cluster.output("a") is None


def test_deaths_in_a_row_without_a_checkpoint_fail_the_job(cluster: Cluster) -> None:
    """A job that kills its nodes does not kill them for ever."""
    cluster.limits = evolve(cluster.limits, max_lost_attempts=3)
    cluster.submit("a", STATE_SAVING_INTERVAL=100_000)
    for _ in range(3):
        interrupted_at(cluster, 50)
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert record.deaths == 3
    assert record.interruptions == {"node_lost": 3}
    assert record.failures == 0


def test_a_checkpoint_forgets_failures_and_deaths(cluster: Cluster) -> None:
    """They are counted in a row: a job that got further starts counting anew, and an interruption is neither."""
    cluster.submit("a")
    stored = cluster.stored("a")
    cluster.record_store.write(RECORD, evolve(stored.record, failures=2, deaths=2), stored.version)
    fate, worker = fated(cluster)
    thread = go(cluster, worker)
    cluster.clock.sleep(50)
    assert (cluster.record("a").failures, cluster.record("a").deaths) == (2, 2)
    cluster.clock.sleep(20)
    assert (cluster.record("a").failures, cluster.record("a").deaths) == (0, 0)
    fate.dead = True
    assert thread.join(100)


def test_a_death_after_a_checkpoint_is_not_counted(cluster: Cluster) -> None:
    """It cost an interval at most: only attempts that vanish without getting further are counted against a job."""
    cluster.submit("a")
    for seconds, deaths in ((70, 0), (30, 1)):  # a checkpoint comes every minute
        fate, worker = fated(cluster)
        thread = go(cluster, worker)
        cluster.clock.sleep(seconds)
        fate.dead = True
        assert thread.join(100)
        cluster.clock.sleep(130)
        fate, worker = fated(cluster)
        thread = go(cluster, worker)
        cluster.clock.sleep(10)
        assert cluster.record("a").deaths == deaths
        worker.drain()
        assert thread.join(100)


@pytest.mark.parametrize("how", ["refused", "unreachable"])
def test_no_message_is_deleted_before_the_next_is_sent(cluster: Cluster, how: str) -> None:
    """A pausing job whose fresh message the queue does not take keeps the old one, and goes on under that."""
    cluster.submit("a")

    class Refusing(FaultInjection):
        def send(self, messages: list[Message]) -> list[SendFailure]:
            if how == "unreachable":
                raise RetryableError("503, on purpose")
            return [SendFailure(message, "refused, on purpose") for message in messages]

    cluster.worker(queue=Refusing(cluster.queue), max_running_time=timedelta(seconds=100), max_jobs=1).run()
    assert cluster.record("a").state is State.PAUSED_FOR_TIMEOUT
    assert cluster.queue.depth().available == 1
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_a_superseded_attempt_leaves_the_demos_log_to_its_successor(cluster: Cluster) -> None:
    """That file has no epoch in its name: who comes back late must not bring its own story there."""
    cluster.memory.put("runs/a/input.txt", b"1\n300\n")
    body = json.dumps({"bucket": "", "folder": "runs/a", "parameters": {}})
    cluster.queue.send([Message(body=body, job="a", dedup="1")])
    fate, zombie = fated(cluster, max_jobs=1)
    thread = go(cluster, zombie)
    cluster.clock.sleep(100)
    fate.asleep = True
    assert go(cluster, cluster.worker(max_jobs=1)).join(1000)
    log = cluster.memory.get("runs/a/logs.txt")
    assert log is not None
    assert b"The job is done" in log.body
    fate.asleep = False
    assert thread.join(1000)
    after = cluster.memory.get("runs/a/logs.txt")
    assert after is not None
    assert after.body == log.body
