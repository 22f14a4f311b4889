"""Notifications of changes of state, by the real worker over memory, on virtual time."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import Fate, FaultInjection, unless_dead
from support.receiver import Receiver

from client.config.composition import Environment
from client.config.settings import from_environ
from client.operations import job_control as control
from client.operations import notices as notification_policy
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


def go(cluster: Cluster, worker: Worker) -> Thread:
    return cluster.clock.start_thread(unless_dead(worker.run), name="worker")


def fated(cluster: Cluster, receiver: Receiver, **others: Any) -> tuple[Fate, Worker]:
    """A worker of a node that may die or sleep, also while it delivers."""
    fate = Fate(cluster.clock)
    ports = {"store": fate.around(cluster.memory), "queue": fate.around(cluster.queue), "clock": fate.clock()}
    return fate, cluster.worker(notification_policy=NotificationPolicy(fate.around(receiver)), **{**ports, **others})  # type: ignore[arg-type]


def env(cluster: Cluster, receiver: Receiver | None) -> Environment:
    return Environment(
        settings=from_environ({}, None),
        clock=cluster.clock,
        queue=cluster.queue,
        store=cluster.memory,
        record_store=cluster.record_store,
        layout=LAYOUT,
        bucket="",
        limits=cluster.limits,
        notification_policy=NotificationPolicy(receiver) if receiver else None,
    )


def down_until(cluster: Cluster, moment: float) -> Callable[[Notice], None]:
    def refuse(_: Notice) -> None:
        if cluster.clock.monotonic() < moment:
            raise RetryableError("down, on purpose")

    return refuse


def ids(record: JobRecord) -> list[str]:
    return [notice.id for notice in record.outbox.notices]


# ---- when all is well ----


def test_each_change_is_told_once_and_in_order(cluster: Cluster, receiver: Receiver) -> None:
    """From the take to the end; and then nothing is left in the record."""
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert receiver.states == WHOLE
    assert receiver.jobs == ["a"] * 4
    assert [(notice.epoch, notice.number) for notice in receiver.told] == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert {notice.node for notice in receiver.told} == {"node1"}
    last = receiver.told[-1]
    assert (last.cause, last.error, last.done, last.total) == ("completed", None, 300, 300)
    assert cluster.record("a").outbox.notices == ()


def test_a_change_is_told_soon_and_not_at_the_end(cluster: Cluster, receiver: Receiver) -> None:
    """While the job runs, within a heartbeat."""
    cluster.submit("a")
    thread = go(cluster, cluster.worker(notification_policy=NotificationPolicy(receiver)))
    cluster.clock.sleep(35)
    assert receiver.states == ["received", "input_loaded", "running"]
    assert thread.join(5000)


def test_a_pause_and_what_follows_it(cluster: Cluster, receiver: Receiver) -> None:
    """Each attempt's changes under its own epoch, once each where one worker has both."""
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_running_time=timedelta(seconds=200)).run()
    assert receiver.states == [*WHOLE[:3], "paused_for_timeout", "received", "resumed", "running", "completed"]
    assert [notice.epoch for notice in receiver.told] == [1] * 4 + [2] * 4
    assert cluster.record("a").outbox.notices == ()


def test_a_failure_says_why(cluster: Cluster, receiver: Receiver) -> None:
    """Its cause and its error are those of the record."""
    cluster.submit("a", "nonsense")
    cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert receiver.states == [*WHOLE[:3], "failed"]
    assert receiver.told[-1].cause == cluster.record("a").attempts[-1].outcome
    error = cluster.record("a").error
    assert error
    assert receiver.told[-1].error == error[:300]


def test_nothing_changes_for_whoever_has_no_webhooks(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread more, no write more, and no byte more in the record."""
    threads: list[str] = []
    start = type(cluster.clock).start_thread

    def listen(clock: Any, run: Any, *, name: str, yields: bool = False) -> Thread:
        threads.append(name)
        return start(clock, run, name=name, yields=yields)

    monkeypatch.setattr(type(cluster.clock), "start_thread", listen)
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
    assert decode_record(bodies[-1]).result != decode_record(bodies[-2]).result  # publishing is the last write, as ever


def test_checkpoints_are_told_if_asked_for(cluster: Cluster, receiver: Receiver) -> None:
    """Those that a heartbeat or a commit brought into the record; never one that was not recorded."""
    cluster.submit("a")
    recorded: set[str] = set()

    def look(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD:
            recorded.update(ids(cluster.record("a")))

    store = FaultInjection(cluster.memory, after=look)
    cluster.worker(
        store=store, notification_policy=NotificationPolicy(receiver, DEFAULT_NOTIFIED_STATES | {State.CHECKPOINTING})
    ).run()
    assert receiver.states[:3] == WHOLE[:3]
    assert receiver.states[-1] == "completed"
    assert receiver.states.count("checkpointing") == 5  # that of the outputs, too
    assert {notice.id for notice in receiver.told} == recorded
    assert len(receiver.told) == len(receiver.unique)


def test_each_checkpoint_is_told_where_nothing_else_is(cluster: Cluster, receiver: Receiver) -> None:
    """Each is another change, though the same edge is followed again and again."""
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver, frozenset({State.CHECKPOINTING}))).run()
    assert receiver.states == ["checkpointing"] * 5
    assert len(receiver.unique) == 5


# ---- when the receiver is not well ----


def test_a_receiver_that_is_down_for_an_hour_delays_no_job(cluster: Cluster, receiver: Receiver) -> None:
    """The job ends when it would have; everything arrives by reconcile once the receiver is up."""
    began = cluster.clock.monotonic()
    receiver.before = down_until(cluster, began + 3600)
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_jobs=1).run()
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.clock.monotonic() - began < 300 + 20 + LAST_S
    assert receiver.told == []
    assert len(cluster.record("a").outbox.notices) == 4
    cluster.clock.sleep(3600)
    assert notification_policy.tell(env(cluster, receiver), ["a"]) == [notification_policy.Told("a", 4, 0)]
    assert receiver.states == WHOLE
    assert cluster.record("a").outbox.notices == ()


def test_a_receiver_that_comes_back_is_told_by_the_attempt(cluster: Cluster, receiver: Receiver) -> None:
    """Within some minutes, since the pauses between tries grow to five minutes and no more."""
    began = cluster.clock.monotonic()
    receiver.before = down_until(cluster, began + 3600)
    cluster.submit("a", "1\n8000\n")
    thread = go(
        cluster, cluster.worker(notification_policy=NotificationPolicy(receiver), max_running_time=timedelta(hours=3))
    )
    cluster.clock.sleep(3600 + 310)
    assert receiver.states == WHOLE[:3]
    assert thread.join(20000)
    assert receiver.states == WHOLE
    assert len(receiver.unique) == 4


def test_a_receiver_that_hangs_holds_the_next_job_up_for_seconds(cluster: Cluster, receiver: Receiver) -> None:
    """At the attempt's end what is left is tried for LAST_S, whatever the receiver does."""
    cluster.submit("a")
    receiver.before = lambda _: cluster.clock.sleep(10_000)
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_jobs=1).run()
    finished = cluster.record("a").timestamps.finished
    assert finished
    assert (cluster.clock.now() - type(cluster.clock.now()).fromisoformat(finished)).total_seconds() < LAST_S + 5
    assert len(cluster.record("a").outbox.notices) == 4


def test_an_answer_that_is_lost_is_a_second_delivery_under_the_same_id(cluster: Cluster, receiver: Receiver) -> None:
    """At least once: the receiver drops what it knows, and nothing is missing."""
    lost: set[str] = set()

    def lose(notice: Notice) -> None:
        if notice.id not in lost:
            lost.add(notice.id)
            raise RetryableError("the answer was lost")

    receiver.after = lose
    cluster.submit("a")
    cluster.worker(notification_policy=NotificationPolicy(receiver)).run()
    assert [notice.state for notice in receiver.unique] == WHOLE
    assert len(receiver.told) == 8
    assert cluster.record("a").outbox.notices == ()


def test_what_is_refused_for_good_is_dropped_and_said(
    cluster: Cluster, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds nothing else up."""

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


def test_an_outbox_that_is_full_stops_no_job_and_says_what_was_missed(cluster: Cluster, receiver: Receiver) -> None:
    """A receiver that is down for very long costs the oldest notices; the next one says how many."""
    receiver.before = down_until(cluster, 1e12)
    cluster.submit("a", "1\n2500\n")
    cluster.worker(notification_policy=NotificationPolicy(receiver), max_running_time=timedelta(seconds=130)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert len(record.outbox.notices) == MAX_NOTICES
    told = record.outbox.notices
    assert told[0].missed == sum(4 for _ in record.attempts) - MAX_NOTICES
    assert told[-1].state is State.COMPLETED


# ---- whoever dies, and whoever comes after ----


def test_race_death_between_record_and_delivery(cluster: Cluster, receiver: Receiver) -> None:
    """What was recorded and not delivered is delivered by the next attempt, before its own."""
    cluster.submit("a")
    fate, worker = fated(cluster, receiver)
    receiver.before = lambda _: fate.__setattr__("dead", True) or fate.meet()
    thread = go(cluster, worker)
    assert thread.join(100)
    assert receiver.told == []
    assert [notice.state for notice in cluster.record("a").outbox.notices][:1] == ["received"]
    second = Receiver()
    go(cluster, cluster.worker(notification_policy=NotificationPolicy(second), max_jobs=1)).join(5000)
    assert (second.told[0].epoch, second.told[0].state) == (1, "received")
    took = next(notice for notice in second.told if notice.epoch == 2)
    assert (took.state, took.cause) == ("received", "node_lost")
    assert second.states[-1] == "completed"
    assert cluster.record("a").outbox.notices == ()


def test_race_death_between_the_end_and_its_delivery(cluster: Cluster, receiver: Receiver) -> None:
    """The job is over, nobody takes it again, and reconcile tells that it is."""
    cluster.submit("a")
    fate, worker = fated(cluster, receiver)

    def die(notice: Notice) -> None:
        if notice.state is State.COMPLETED:
            fate.dead = True
            fate.meet()

    receiver.before = die
    assert go(cluster, worker).join(5000)
    assert cluster.record("a").state is State.COMPLETED
    assert receiver.states == WHOLE[:3]
    cluster.clock.sleep(100)
    again = Receiver()
    assert notification_policy.tell(env(cluster, again), ["a"])[0].left == 0
    assert again.states[-1] == "completed"
    assert {notice.id for notice in [*receiver.told, *again.told]} >= {again.told[-1].id}
    assert cluster.record("a").outbox.notices == ()


def test_race_death_between_delivery_and_taking_out(cluster: Cluster, receiver: Receiver) -> None:
    """It is delivered again, under the same id."""
    cluster.submit("a")
    fate, worker = fated(cluster, receiver)

    def die(notice: Notice) -> None:
        if notice.state is State.COMPLETED:
            fate.dead = True
            fate.meet()

    receiver.after = die
    assert go(cluster, worker).join(5000)
    receiver.after = lambda _: None
    cluster.clock.sleep(100)
    notification_policy.tell(env(cluster, receiver), ["a"])
    completed = [notice.id for notice in receiver.told if notice.state is State.COMPLETED]
    assert len(completed) == 2
    assert len(set(completed)) == 1


def test_race_superseded_tells_nothing_more(cluster: Cluster, receiver: Receiver) -> None:
    """A node that slept past its lease finds another epoch: what it had not told, its successor has in its record."""
    zombies = Receiver(before=down_until(cluster, 1e12))
    cluster.submit("a")
    fate, zombie = fated(cluster, zombies)
    thread = go(cluster, zombie)
    cluster.clock.sleep(100)
    fate.asleep = True
    assert go(cluster, cluster.worker(notification_policy=NotificationPolicy(receiver), max_jobs=1)).join(1000)
    assert [notice.epoch for notice in receiver.unique] == [1] * 3 + [2] * 4
    fate.asleep = False
    zombie.drain()
    assert thread.join(1000)
    zombies.before = lambda _: None
    cluster.clock.sleep(10_000)
    assert zombies.told == []
    assert cluster.record("a").outbox.notices == ()


def test_race_zombie_repeats_its_last_write(cluster: Cluster, receiver: Receiver) -> None:
    """Its end landed, the answer was lost, it slept; reconcile told of it and took it out: it does not come back."""
    cluster.submit("a")

    def fall_asleep(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD and decode_record(args[1]).state is State.FAILED and blind == [1]:
            fate.asleep = True
            fate.meet()
            raise RetryableError("the answer was lost")

    blind = [1]

    def lose_once(name: str, *args: Any, **_: Any) -> None:
        if name == "get" and args[0] == RECORD and cluster.record("a").state is State.FAILED and blind:
            blind.pop()
            raise RetryableError("nobody answers")

    store = FaultInjection(cluster.memory, before=lose_once, after=fall_asleep)
    failing = {"script": lambda _, step: 1 if step > 5 else None, "max_failures": 1, "max_jobs": 1}
    fate, zombie = fated(cluster, receiver, store=store, **failing)
    thread = go(cluster, zombie)
    while not fate.asleep:
        cluster.clock.sleep(1)
    cluster.clock.sleep(100)
    assert notification_policy.tell(env(cluster, receiver), ["a"])[0].left == 0
    assert receiver.states == [*WHOLE[:3], "failed"]
    assert cluster.record("a").outbox.notices == ()
    fate.asleep = False
    assert thread.join(1000)
    cluster.clock.sleep(1000)
    assert blind == []
    assert receiver.states.count("failed") == 1
    assert cluster.record("a").outbox.notices == ()


@pytest.mark.parametrize("number", range(1, 9))
def test_race_answer_of_a_write_with_notices_lost(cluster: Cluster, receiver: Receiver, number: int) -> None:
    """Whichever write lands without an answer: each change is told, once, under one id."""
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


def blinded(cluster: Cluster, number: int) -> FaultInjection:
    """A store that loses the answer of the record's write *number*, and then answers nothing for a while."""
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
            raise RetryableError("nobody answers")

    return FaultInjection(cluster.memory, before=blind, after=lose)


@pytest.mark.parametrize("number", range(2, 12))
def test_race_answer_and_read_back_lost_with_notices(cluster: Cluster, receiver: Receiver, number: int) -> None:
    """The write is tried again later; what it puts into the outbox it puts there once, whatever was delivered since."""
    cluster.submit("a")
    cluster.worker(store=blinded(cluster, number), notification_policy=NotificationPolicy(receiver)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert receiver.states == WHOLE
    assert [notice.number for notice in receiver.told] == [1, 2, 3, 4]
    assert cluster.record("a").outbox.notices == ()


def test_race_end_of_unknown_outcome_keeps_its_id(cluster: Cluster, receiver: Receiver) -> None:
    """The write that ends the attempt lands, unheard, and is tried again: the same notice, not a second one."""
    cluster.submit("a")
    blind_until = 0.0

    def lose(name: str, *args: Any, **_: Any) -> None:
        nonlocal blind_until
        if name == "put" and args[0] == RECORD and decode_record(args[1]).state is State.COMPLETED and not blind_until:
            blind_until = cluster.clock.monotonic() + 20
            raise RetryableError("the answer was lost")

    def blind(name: str, *args: Any, **_: Any) -> None:
        if cluster.clock.monotonic() < blind_until and args[0] == RECORD:
            raise RetryableError("nobody answers")

    cluster.worker(
        store=FaultInjection(cluster.memory, before=blind, after=lose), notification_policy=NotificationPolicy(receiver)
    ).run()
    assert blind_until
    assert receiver.states == WHOLE
    assert cluster.record("a").outbox.notices == ()


def test_race_end_that_is_not_recorded_renews_no_lease(cluster: Cluster, receiver: Receiver) -> None:
    """A node that hands its job back without being able to say so writes nothing more, though it told something."""
    cluster.submit("a")

    def refuse(name: str, *args: Any, **_: Any) -> None:
        if name == "put" and args[0] == RECORD and decode_record(args[1]).state is State.RELEASED:
            raise RetryableError("refused, on purpose")

    worker = cluster.worker(
        store=FaultInjection(cluster.memory, before=refuse),
        notification_policy=NotificationPolicy(receiver),
        stop_grace=timedelta(seconds=10),
    )
    thread = go(cluster, worker)
    cluster.clock.sleep(10)
    assert receiver.states == WHOLE[:3]
    left = ids(cluster.record("a"))
    assert left
    worker.drain()
    assert thread.join(20)
    assert cluster.record("a").state is State.RUNNING
    assert cluster.stored("a").age_s > 3
    assert ids(cluster.record("a")) == left


def test_race_operator_gets_in_between_with_notices(cluster: Cluster, receiver: Receiver) -> None:
    """A cancellation that meets the owner's write: the owner applies its notices to the operator's record."""
    cluster.submit("a")
    thread = go(cluster, cluster.worker(notification_policy=NotificationPolicy(receiver)))
    cluster.clock.sleep(50)
    assert "is asked to end it" in control.cancel(env(cluster, receiver), "a")
    assert thread.join(5000)
    assert receiver.states == [*WHOLE[:3], "cancelled"]
    assert receiver.told[-1].node == "node1"
    assert cluster.record("a").outbox.notices == ()


# ---- operators ----


def test_a_cancel_of_a_job_that_nobody_owns_is_told(
    cluster: Cluster, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command itself, under the epoch that it made; then nothing is left in the record."""
    cluster.submit("a")
    assert control.run(env(cluster, receiver), ["a"], control.cancel) == 0
    notice = receiver.told[0]
    assert (notice.state, notice.epoch, notice.number, notice.node, notice.cause) == (
        "cancelled",
        1,
        1,
        None,
        "cancelled",
    )
    assert len(receiver.told) == 1
    assert cluster.record("a").outbox.notices == ()
    assert control.run(env(cluster, receiver), ["a"], control.retry) == 0
    assert [(notice.state, notice.epoch, notice.cause) for notice in receiver.told[1:]] == [("queued", 2, "retried")]
    capsys.readouterr()


def test_a_cancel_that_cannot_be_told_is_done_and_told_later(
    cluster: Cluster, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says so in one line for all jobs, having asked the receiver no more often than it must."""
    jobs = [f"job{number}" for number in range(40)]
    for job in jobs:
        cluster.submit(job)
    tries: list[str] = []

    def refuse(notice: Notice) -> None:
        tries.append(notice.id)
        raise RetryableError("https://receiver answers 503")

    receiver.before = refuse
    assert control.run(env(cluster, receiver), jobs, control.cancel) == 0
    assert {cluster.record(job).state for job in jobs} == {State.CANCELLED}
    assert len(tries) <= notification_policy.READERS
    assert capsys.readouterr().err == (
        "holdfast: the changes of 40 jobs are not told yet (https://receiver answers 503): "
        "they stay in the record; `holdfast reconcile` tells them\n"
    )
    receiver.before = lambda _: None
    assert sum(told.delivered for told in notification_policy.tell(env(cluster, receiver), jobs)) == 40
    assert receiver.states == ["cancelled"] * 40


def test_a_job_that_an_attempt_may_own_is_left_to_it(cluster: Cluster, receiver: Receiver) -> None:
    """Also when its lease has run out: a write would renew the lease of whoever is gone, and delay the next."""
    cluster.submit("a")
    fate, worker = fated(cluster, Receiver(before=down_until(cluster, 1e12)))
    thread = go(cluster, worker)
    cluster.clock.sleep(50)
    fate.dead = True
    assert thread.join(100)
    cluster.clock.sleep(5000)
    before = cluster.stored("a")
    assert not notification_policy.is_untold(before, timedelta(0))
    assert notification_policy.tell(env(cluster, receiver), ["a"]) == []
    assert cluster.stored("a").version == before.version
    assert receiver.told == []


def test_a_job_that_is_taken_while_reconcile_delivers_keeps_its_notices(cluster: Cluster, receiver: Receiver) -> None:
    """The next attempt has them in its record, and may deliver them again: more than once, and never not at all."""
    cluster.submit("a")
    control.cancel(env(cluster, receiver), "a")
    stored = cluster.stored("a")
    receiver.after = lambda _: (
        cluster.clock.sleep(2),
        cluster.record_store.write(
            RECORD, evolve(stored.record, state=State.RECEIVED, epoch=9, owner="n"), stored.version
        ),
    )[0]
    notification_policy.tell(env(cluster, receiver), ["a"])
    assert ids(cluster.record("a")) == [receiver.told[0].id]
