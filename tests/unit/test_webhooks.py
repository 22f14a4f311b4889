"""Notifications of state changes, by the real worker on in-memory ports and virtual time."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultInjection, FaultyNode, unless_dead
from support.operators import environment_of
from support.receiver import Receiver

from client.commands import cancel, retry
from client.config.environment import Environment
from client.operations import job_control as control
from client.operations.notices import DeliveryResult, deliver_notices, has_undelivered_notices
from client.records.reader import READERS
from lifecycle.attempt.webhook_dispatcher import LAST_S
from lifecycle.attempt.worker import Worker
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.outbox import MAX_NOTICES, Notice
from lifecycle.ports.clock import Thread
from lifecycle.record.codec import decode_record
from lifecycle.record.notifications import DEFAULT_NOTIFIED_STATES, NotificationPolicy
from lifecycle.states import State

RECORD = LAYOUT.job("a").record
WHOLE = ["received", "input_loaded", "running", "completed"]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def start(cluster: Cluster, worker: Worker) -> Thread:
    """Run *worker* in a thread."""
    return cluster.clock.start_thread(unless_dead(worker.run), name="worker")


def faulty_node(cluster: Cluster, receiver: Receiver, **others: Any) -> tuple[FaultyNode, Worker]:
    """Return a node that the test can kill or suspend, also during a delivery, and a worker on it."""
    node = FaultyNode(cluster.clock)
    ports = {"store": node.around(cluster.memory), "queue": node.around(cluster.queue), "clock": node.clock()}
    return node, cluster.worker(notification_policy=NotificationPolicy(node.around(receiver)), **{**ports, **others})


def operator_environment(cluster: Cluster, receiver: Receiver | None) -> Environment:
    """Return an operator's environment on the cluster's ports."""
    return environment_of(cluster, NotificationPolicy(receiver) if receiver else None)


def down_until(cluster: Cluster, moment: float) -> Callable[[Notice], None]:
    """Return a function that refuses deliveries until *moment*."""

    def refuse(_: Notice) -> None:
        if cluster.clock.monotonic() < moment:
            raise RetryableError("down, on purpose")

    return refuse


def ids(record: JobRecord) -> list[str]:
    return [notice.id for notice in record.outbox.notices]


# ---- without faults ----


def test_each_change_is_reported_once_and_in_order(cluster: Cluster, receiver: Receiver) -> None:
    """Every change from `received` to the end is delivered once and in order, and then removed from the record."""
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert receiver.states == WHOLE
    assert receiver.jobs == ["a"] * 4
    assert [(notice.epoch, notice.number) for notice in receiver.deliveries] == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert {notice.node for notice in receiver.deliveries} == {"node1"}
    last = receiver.deliveries[-1]
    assert (last.cause, last.error, last.done, last.total) == ("completed", None, 300, 300)
    assert cluster.record("a").outbox.notices == ()


def test_a_change_is_reported_within_a_heartbeat(cluster: Cluster, receiver: Receiver) -> None:
    """A change is reported while the job runs, within a heartbeat, not at the end of the attempt."""
    cluster.submit("a")
    thread = start(cluster, cluster.worker(notification_policy=NotificationPolicy(receiver)))
    cluster.clock.sleep(35)
    assert receiver.states == ["received", "input_loaded", "running"]
    assert thread.join(5000)


def test_a_pause_and_the_next_attempt_are_reported(cluster: Cluster, receiver: Receiver) -> None:
    """Each attempt's changes are reported under its own epoch, once each, even if one worker runs both attempts."""
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_running_time=timedelta(seconds=200)).run()
    assert receiver.states == [*WHOLE[:3], "paused_for_timeout", "received", "resumed", "running", "completed"]
    assert [notice.epoch for notice in receiver.deliveries] == [1] * 4 + [2] * 4
    assert cluster.record("a").outbox.notices == ()


def test_a_failure_is_reported_with_its_reason(cluster: Cluster, receiver: Receiver) -> None:
    """The notice of a failure has the cause and the error of the record."""
    cluster.submit("a", "nonsense")
    cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert receiver.states == [*WHOLE[:3], "failed"]
    assert receiver.deliveries[-1].cause == cluster.record("a").attempts[-1].outcome
    error = cluster.record("a").error
    assert error
    assert receiver.deliveries[-1].error == error[:300]


def test_without_webhooks_there_is_no_extra_work(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without webhooks there is no extra thread, no extra write, and no outbox in the record."""
    threads: list[str] = []
    start_thread = type(cluster.clock).start_thread

    def record_name(clock: Any, run: Any, *, name: str, yields: bool = False) -> Thread:
        threads.append(name)
        return start_thread(clock, run, name=name, yields=yields)

    monkeypatch.setattr(type(cluster.clock), "start_thread", record_name)
    bodies: list[bytes] = []

    def keep(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD:
            bodies.append(args[1])

    cluster.submit("a")
    cluster.worker(store=FaultInjection(cluster.memory, before=keep)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert threads
    assert not [name for name in threads if "webhook-dispatcher" in name]
    assert not [body for body in bodies if b"outbox" in body]
    assert decode_record(bodies[-1]).result != decode_record(bodies[-2]).result  # publishing is still the last write


def test_checkpoints_are_reported_if_selected(cluster: Cluster, receiver: Receiver) -> None:
    """Selected checkpoints are reported if a heartbeat or a commit recorded them, and never otherwise."""
    cluster.submit("a")
    recorded: set[str] = set()

    def collect_ids(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD:
            recorded.update(ids(cluster.record("a")))

    store = FaultInjection(cluster.memory, after=collect_ids)
    cluster.worker(
        store=store, notification_policy=NotificationPolicy(receiver, DEFAULT_NOTIFIED_STATES | {State.CHECKPOINTING})
    ).run()
    assert receiver.states[:3] == WHOLE[:3]
    assert receiver.states[-1] == "completed"
    assert receiver.states.count("checkpointing") == 5  # including that of the outputs
    assert {notice.id for notice in receiver.deliveries} == recorded
    assert len(receiver.deliveries) == len(receiver.unique)


def test_each_checkpoint_is_reported_if_only_checkpoints_are(cluster: Cluster, receiver: Receiver) -> None:
    """Each checkpoint has a notice of its own, although the same edge is followed each time."""
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver, frozenset({State.CHECKPOINTING}))).run()
    assert receiver.states == ["checkpointing"] * 5
    assert len(receiver.unique) == 5


# ---- faults of the receiver ----


def test_a_receiver_that_is_down_does_not_delay_a_job(cluster: Cluster, receiver: Receiver) -> None:
    """A receiver that is down for an hour does not delay the job, and reconcile delivers the notices afterwards."""
    began = cluster.clock.monotonic()
    receiver.before = down_until(cluster, began + 3600)
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_jobs=1).run()
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.clock.monotonic() - began < 300 + 20 + LAST_S
    assert receiver.deliveries == []
    assert len(cluster.record("a").outbox.notices) == 4
    cluster.clock.sleep(3600)
    assert deliver_notices(operator_environment(cluster, receiver), ["a"]) == [DeliveryResult("a", 4, 0)]
    assert receiver.states == WHOLE
    assert cluster.record("a").outbox.notices == ()


def test_a_recovered_receiver_is_notified_by_the_attempt(cluster: Cluster, receiver: Receiver) -> None:
    """A running attempt delivers within minutes of the receiver's recovery: pauses grow to five minutes at most."""
    began = cluster.clock.monotonic()
    receiver.before = down_until(cluster, began + 3600)
    cluster.submit("a", "1\n8000\n")
    thread = start(
        cluster, cluster.worker(notification_policy=NotificationPolicy(receiver), max_running_time=timedelta(hours=3))
    )
    cluster.clock.sleep(3600 + 310)
    assert receiver.states == WHOLE[:3]
    assert thread.join(20000)
    assert receiver.states == WHOLE
    assert len(receiver.unique) == 4


def test_a_receiver_that_hangs_delays_the_next_job_by_seconds(cluster: Cluster, receiver: Receiver) -> None:
    """At the end of an attempt, delivery of the remaining notices is tried for at most LAST_S."""
    cluster.submit("a")
    receiver.before = lambda _: cluster.clock.sleep(10_000)
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_jobs=1).run()
    finished = cluster.record("a").timestamps.finished
    assert finished
    assert (cluster.clock.now() - type(cluster.clock.now()).fromisoformat(finished)).total_seconds() < LAST_S + 5
    assert len(cluster.record("a").outbox.notices) == 4


def test_a_lost_answer_causes_a_second_delivery_with_the_same_id(cluster: Cluster, receiver: Receiver) -> None:
    """Delivery is at least once: a notice whose answer is lost is delivered again under the same id."""
    lost: set[str] = set()

    def lose(notice: Notice) -> None:
        if notice.id not in lost:
            lost.add(notice.id)
            raise RetryableError("the answer was lost")

    receiver.after = lose
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert [notice.state for notice in receiver.unique] == WHOLE
    assert len(receiver.deliveries) == 8
    assert cluster.record("a").outbox.notices == ()


def test_a_permanently_refused_notice_is_dropped_and_logged(
    cluster: Cluster, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """A permanently refused notice is dropped and logged, and does not delay the others."""

    def refuse(notice: Notice) -> None:
        if notice.state is State.INPUT_LOADED:
            raise PermanentError("https://receiver answers 422")

    receiver.before = refuse
    cluster.submit("a")
    with caplog.at_level(logging.WARNING, "holdfast"):
        cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert receiver.states == ["received", "running", "completed"]
    dropped = [message for message in caplog.messages if message.startswith("webhook.dropped")]
    assert any("https://receiver answers 422" in message for message in dropped)
    assert cluster.record("a").outbox.notices == ()


def test_a_full_outbox_counts_the_dropped_notices(cluster: Cluster, receiver: Receiver) -> None:
    """A receiver that is down for very long misses the oldest notices; the next notice says how many."""
    receiver.before = down_until(cluster, 1e12)
    cluster.submit("a", "1\n2500\n")
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_running_time=timedelta(seconds=130)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert len(record.outbox.notices) == MAX_NOTICES
    remaining = record.outbox.notices
    assert remaining[0].missed == sum(4 for _ in record.attempts) - MAX_NOTICES
    assert remaining[-1].state is State.COMPLETED


# ---- crashes and takeovers ----


def test_race_death_between_record_and_delivery(cluster: Cluster, receiver: Receiver) -> None:
    """Notices that were recorded and not delivered are delivered by the next attempt, before its own."""
    cluster.submit("a")
    node, worker = faulty_node(cluster, receiver)

    def die(_: Notice) -> None:
        node.dead = True
        node.check_alive()

    receiver.before = die
    thread = start(cluster, worker)
    assert thread.join(100)
    assert receiver.deliveries == []
    assert [notice.state for notice in cluster.record("a").outbox.notices][:1] == ["received"]
    second = Receiver()
    start(cluster, cluster.worker(notification_policy=NotificationPolicy(second), max_jobs=1)).join(5000)
    assert (second.deliveries[0].epoch, second.deliveries[0].state) == (1, "received")
    taken = next(notice for notice in second.deliveries if notice.epoch == 2)
    assert (taken.state, taken.cause) == ("received", "node_lost")
    assert second.states[-1] == "completed"
    assert cluster.record("a").outbox.notices == ()


def test_race_death_between_the_end_and_its_delivery(cluster: Cluster, receiver: Receiver) -> None:
    """If a node dies before it reports the end of a job, reconcile reports it, because no attempt follows."""
    cluster.submit("a")
    node, worker = faulty_node(cluster, receiver)

    def die(notice: Notice) -> None:
        if notice.state is State.COMPLETED:
            node.dead = True
            node.check_alive()

    receiver.before = die
    assert start(cluster, worker).join(5000)
    assert cluster.record("a").state is State.COMPLETED
    assert receiver.states == WHOLE[:3]
    cluster.clock.sleep(100)
    again = Receiver()
    assert deliver_notices(operator_environment(cluster, again), ["a"])[0].left == 0
    assert again.states[-1] == "completed"
    assert {notice.id for notice in [*receiver.deliveries, *again.deliveries]} >= {again.deliveries[-1].id}
    assert cluster.record("a").outbox.notices == ()


def test_race_death_between_delivery_and_removal(cluster: Cluster, receiver: Receiver) -> None:
    """A notice that was delivered and not removed is delivered again under the same id."""
    cluster.submit("a")
    node, worker = faulty_node(cluster, receiver)

    def die(notice: Notice) -> None:
        if notice.state is State.COMPLETED:
            node.dead = True
            node.check_alive()

    receiver.after = die
    assert start(cluster, worker).join(5000)
    receiver.after = lambda _: None
    cluster.clock.sleep(100)
    deliver_notices(operator_environment(cluster, receiver), ["a"])
    completed = [notice.id for notice in receiver.deliveries if notice.state is State.COMPLETED]
    assert len(completed) == 2
    assert len(set(completed)) == 1


def test_race_superseded_attempt_delivers_nothing(cluster: Cluster, receiver: Receiver) -> None:
    """A superseded attempt delivers nothing more; its undelivered notices are in its successor's record."""
    zombie_receiver = Receiver(before=down_until(cluster, 1e12))
    cluster.submit("a")
    node, zombie = faulty_node(cluster, zombie_receiver)
    thread = start(cluster, zombie)
    cluster.clock.sleep(100)
    node.suspended = True
    assert start(cluster, cluster.worker(notification_policy=NotificationPolicy(receiver), max_jobs=1)).join(1000)
    assert [notice.epoch for notice in receiver.unique] == [1] * 3 + [2] * 4
    node.suspended = False
    zombie.drain()
    assert thread.join(1000)
    zombie_receiver.before = lambda _: None
    cluster.clock.sleep(10_000)
    assert zombie_receiver.deliveries == []
    assert cluster.record("a").outbox.notices == ()


def test_race_zombie_repeats_its_last_write(cluster: Cluster, receiver: Receiver) -> None:
    """A notice that reconcile delivered and removed does not return when a suspended node repeats its last write."""
    cluster.submit("a")

    def suspend(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD and decode_record(args[1]).state is State.FAILED and blind == [1]:
            node.suspended = True
            node.check_alive()
            raise RetryableError("the answer was lost")

    blind = [1]

    def lose_once(name: str, *args: Any, **_: Any) -> None:
        if name == "get" and args[0] == RECORD and cluster.record("a").state is State.FAILED and blind:
            blind.pop()
            raise RetryableError("no answer, on purpose")

    store = FaultInjection(cluster.memory, before=lose_once, after=suspend)
    failing = {"script": lambda _, step: 1 if step > 5 else None, "max_failures": 1, "max_jobs": 1}
    node, zombie = faulty_node(cluster, receiver, store=store, **failing)
    thread = start(cluster, zombie)
    while not node.suspended:
        cluster.clock.sleep(1)
    cluster.clock.sleep(100)
    assert deliver_notices(operator_environment(cluster, receiver), ["a"])[0].left == 0
    assert receiver.states == [*WHOLE[:3], "failed"]
    assert cluster.record("a").outbox.notices == ()
    node.suspended = False
    assert thread.join(1000)
    cluster.clock.sleep(1000)
    assert blind == []
    assert receiver.states.count("failed") == 1
    assert cluster.record("a").outbox.notices == ()


@pytest.mark.parametrize("number", range(1, 9))
def test_race_answer_of_a_write_with_notices_lost(cluster: Cluster, receiver: Receiver, number: int) -> None:
    """If a write with notices lands and its answer is lost, each change is reported once, under one id."""
    cluster.submit("a")
    puts = 0

    def lose(name: str, *args: Any, **kwargs: Any) -> None:
        nonlocal puts
        if name == "put" and args[0] == RECORD:
            puts += 1
            if puts == number:
                raise RetryableError("the answer was lost")

    cluster.worker(
        store=FaultInjection(cluster.memory, after=lose), notification_policy=NotificationPolicy(receiver)
    ).run()
    assert puts >= number
    assert receiver.states == WHOLE
    assert cluster.record("a").outbox.notices == ()


def losing_answers(cluster: Cluster, number: int) -> FaultInjection:
    """Return a store that loses the answer of the record's write *number*, and then gives no answers for a while."""
    puts, blind_until = 0, 0.0

    def lose(name: str, *args: Any, **kwargs: Any) -> None:
        nonlocal puts, blind_until
        if name == "put" and args[0] == RECORD:
            puts += 1
            if puts == number:
                blind_until = cluster.clock.monotonic() + 20
                raise RetryableError("the answer was lost")

    def blind(name: str, *args: Any, **kwargs: Any) -> None:
        if cluster.clock.monotonic() < blind_until and args[0] == RECORD:
            raise RetryableError("no answer, on purpose")

    return FaultInjection(cluster.memory, before=blind, after=lose)


@pytest.mark.parametrize("number", range(2, 12))
def test_race_answer_and_read_back_lost_with_notices(cluster: Cluster, receiver: Receiver, number: int) -> None:
    """A write whose outcome is unknown is repeated, and adds its notice once, also after a delivery in between."""
    cluster.submit("a")
    cluster.worker(store=losing_answers(cluster, number), notification_policy=NotificationPolicy(receiver)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert receiver.states == WHOLE
    assert [notice.number for notice in receiver.deliveries] == [1, 2, 3, 4]
    assert cluster.record("a").outbox.notices == ()


def test_race_end_of_unknown_outcome_keeps_its_id(cluster: Cluster, receiver: Receiver) -> None:
    """If the write that ends an attempt lands unnoticed and is repeated, the notice is the same, not a second one."""
    cluster.submit("a")
    blind_until = 0.0

    def lose(name: str, *args: Any, **_: Any) -> None:
        nonlocal blind_until
        if name == "put" and args[0] == RECORD and decode_record(args[1]).state is State.COMPLETED and not blind_until:
            blind_until = cluster.clock.monotonic() + 20
            raise RetryableError("the answer was lost")

    def blind(name: str, *args: Any, **_: Any) -> None:
        if cluster.clock.monotonic() < blind_until and args[0] == RECORD:
            raise RetryableError("no answer, on purpose")

    cluster.worker(
        store=FaultInjection(cluster.memory, before=blind, after=lose), notification_policy=NotificationPolicy(receiver)
    ).run()
    assert blind_until
    assert receiver.states == WHOLE
    assert cluster.record("a").outbox.notices == ()


def test_race_end_that_is_not_recorded_renews_no_lease(cluster: Cluster, receiver: Receiver) -> None:
    """A drained node that cannot record the release writes nothing more, so it does not renew the lease."""
    cluster.submit("a")

    def refuse(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD and decode_record(args[1]).state is State.RELEASED:
            raise RetryableError("refused, on purpose")

    worker = cluster.worker(
        store=FaultInjection(cluster.memory, before=refuse),
        notification_policy=NotificationPolicy(receiver),
        stop_grace=timedelta(seconds=10),
    )
    thread = start(cluster, worker)
    cluster.clock.sleep(10)
    assert receiver.states == WHOLE[:3]
    left = ids(cluster.record("a"))
    assert left
    worker.drain()
    assert thread.join(20)
    assert cluster.record("a").state is State.RUNNING
    assert (cluster.stored("a").age_s or 0) > 3
    assert ids(cluster.record("a")) == left


def test_race_operator_writes_between_with_notices(cluster: Cluster, receiver: Receiver) -> None:
    """If the owner's write conflicts with a cancellation, the owner applies its notices to the operator's record."""
    cluster.submit("a")
    thread = start(cluster, cluster.worker(notification_policy=NotificationPolicy(receiver)))
    cluster.clock.sleep(50)
    assert "cancellation requested" in control.cancel(operator_environment(cluster, receiver), "a")
    assert thread.join(5000)
    assert receiver.states == [*WHOLE[:3], "cancelled"]
    assert receiver.deliveries[-1].node == "node1"
    assert cluster.record("a").outbox.notices == ()


# ---- operators ----


def test_the_cancellation_of_an_unowned_job_is_reported(
    cluster: Cluster, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself reports the cancellation or retry of an unowned job, under the new epoch."""
    cluster.submit("a")
    assert cancel.run(operator_environment(cluster, receiver), ["a"]) == 0
    notice = receiver.deliveries[0]
    assert (notice.state, notice.epoch, notice.number, notice.node, notice.cause) == (
        "cancelled",
        1,
        1,
        None,
        "cancelled",
    )
    assert len(receiver.deliveries) == 1
    assert cluster.record("a").outbox.notices == ()
    assert retry.run(operator_environment(cluster, receiver), ["a"]) == 0
    assert [(notice.state, notice.epoch, notice.cause) for notice in receiver.deliveries[1:]] == [
        ("queued", 2, "retried")
    ]
    capsys.readouterr()


def test_an_unreported_cancellation_is_reported_later(
    cluster: Cluster, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the receiver is down, jobs are cancelled all the same; one line says so, and few deliveries are tried."""
    jobs = [f"job{number}" for number in range(40)]
    for job in jobs:
        cluster.submit(job)
    tries: list[str] = []

    def refuse(notice: Notice) -> None:
        tries.append(notice.id)
        raise RetryableError("https://receiver answers 503")

    receiver.before = refuse
    assert cancel.run(operator_environment(cluster, receiver), jobs) == 0
    assert {cluster.record(job).state for job in jobs} == {State.CANCELLED}
    assert len(tries) <= READERS
    assert capsys.readouterr().err == (
        "holdfast: state changes of 40 jobs are not delivered yet (https://receiver answers 503): "
        "they stay in the record, and `holdfast reconcile` delivers them\n"
    )
    receiver.before = lambda _: None
    assert sum(result.delivered for result in deliver_notices(operator_environment(cluster, receiver), jobs)) == 40
    assert receiver.states == ["cancelled"] * 40


def test_notices_of_an_owned_job_are_left_to_its_attempt(cluster: Cluster, receiver: Receiver) -> None:
    """Reconcile never writes the record of an owned job, even with an expired lease: a write would renew the lease."""
    cluster.submit("a")
    node, worker = faulty_node(cluster, Receiver(before=down_until(cluster, 1e12)))
    thread = start(cluster, worker)
    cluster.clock.sleep(50)
    node.dead = True
    assert thread.join(100)
    cluster.clock.sleep(5000)
    before = cluster.stored("a")
    assert not has_undelivered_notices(before, timedelta(0))
    assert deliver_notices(operator_environment(cluster, receiver), ["a"]) == []
    assert cluster.stored("a").version == before.version
    assert receiver.deliveries == []


def test_a_job_taken_during_reconcile_keeps_its_notices(cluster: Cluster, receiver: Receiver) -> None:
    """The next attempt still has the notices and may deliver them again; none is lost."""
    cluster.submit("a")
    control.cancel(operator_environment(cluster, receiver), "a")
    stored = cluster.stored("a")

    def take(_: Notice) -> None:
        cluster.clock.sleep(2)
        taken = evolve(stored.record, state=State.RECEIVED, epoch=9, owner="n")
        cluster.record_store.write(RECORD, taken, stored.version)

    receiver.after = take
    deliver_notices(operator_environment(cluster, receiver), ["a"])
    assert ids(cluster.record("a")) == [receiver.deliveries[0].id]
