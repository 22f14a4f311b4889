"""A job's way through a worker, in memory, on virtual time."""

import errno
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.checkpoint_fixture import keep
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultInjection, unless_dead

from adapters.local.node import LocalNode
from adapters.memory.runner import FakeWorkload, trace_bytes
from lifecycle.checkpoint.publish import publish
from lifecycle.checkpoint.restore import fetch_manifest, fill
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import JobRecord, Progress, Result
from lifecycle.ports.queue import Depth, Message
from lifecycle.ports.runner import Exit, Report
from lifecycle.record.message import announce
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def ask_to_cancel(cluster: Cluster) -> None:
    """As an operator does while somebody owns the job."""
    stored = cluster.stored("a")
    asked = evolve(stored.record, control=evolve(stored.record.control, cancel=True))
    cluster.record_store.write(LAYOUT.job("a").record, asked, stored.version)


def test_a_job_is_carried_to_its_end(cluster: Cluster) -> None:
    """Input, checkpoints, output, record, message: all as they should be at the end."""
    cluster.submit("a")
    assert cluster.worker(max_jobs=1).run() == 0
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.is_settled
    assert cluster.output("a") == "45150"
    assert record.owner is None
    assert [attempt.outcome for attempt in record.attempts] == ["completed"]
    assert record.attempts[0].commits == 4
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_nothing_is_left_that_no_record_names(cluster: Cluster) -> None:
    """After the end there are the input, the last checkpoint, the result, its published copy, and the log."""
    cluster.submit("a")
    cluster.worker().run()
    kinds = sorted(key.removeprefix("runs/a/").split("/")[0] for key in cluster.keys_of("a"))
    assert kinds == ["checkpoints", "checkpoints", "input", "log", "output", "packs", "packs"]
    assert not list((cluster.root / "node1").iterdir())


def test_a_long_job_pauses_and_goes_on_under_a_fresh_message(cluster: Cluster) -> None:
    """MAX_RUNNING_TIME ends an attempt, not the job; nothing is lost, and one message is left at any time."""
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100), max_jobs=1).run()
    assert cluster.queue.depth() == Depth(1, 0, 0)
    cluster.worker(max_running_time=timedelta(seconds=100)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "timeout", "completed"]
    assert [attempt.resumed_step for attempt in record.attempts] == [None, 100, 200]
    assert record.interruptions == {"timeout": 2}
    assert record.dispatch == 3
    assert cluster.output("a") == "45150"
    assert sum(attempt.steps for attempt in record.attempts) == 300
    assert record.timestamps.started == record.attempts[0].started


def test_only_the_time_of_the_workload_is_useful(cluster: Cluster) -> None:
    """Not that of the last upload, which may take long."""
    cluster.submit("a")

    def slow(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() > 300:
            cluster.clock.sleep(100)

    cluster.worker(store=FaultInjection(cluster.memory, before=slow)).run()
    record = cluster.record("a")
    assert 300 <= record.attempts[0].useful_s < 303
    assert record.ran_s == record.attempts[0].useful_s


def test_a_workload_may_say_nothing_of_how_far_it_is(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no steps then; its checkpoints count as progress, and the next attempt goes on from them."""
    poll = FakeWorkload.poll

    def silent(self: FakeWorkload) -> Report:
        report = poll(self)
        announced = evolve(report.announced, step=None) if report.announced else None
        return evolve(report, done=None, total=None, announced=announced)

    monkeypatch.setattr(FakeWorkload, "poll", silent)
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.progress == Progress()
    assert [attempt.steps for attempt in record.attempts] == [0] * 3
    assert [attempt.commits for attempt in record.attempts] == [2, 2, 1]
    assert cluster.output("a") == "45150"


def test_how_long_a_workload_has_run_is_noted_without_its_saying_anything(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that time would be lost for the account, should its node vanish."""
    poll = FakeWorkload.poll
    monkeypatch.setattr(FakeWorkload, "poll", lambda self: evolve(poll(self), done=None, total=None))
    cluster.submit("a")
    worker = cluster.worker(state_saving_interval=timedelta(hours=1))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(200)
    assert 150 <= cluster.record("a").attempts[0].useful_s <= 200
    worker.drain()
    assert thread.join(1000)


def test_what_a_workload_said_last_counts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that removes its own account of how far it is has still got so far."""
    poll = FakeWorkload.poll

    def forgetful(self: FakeWorkload) -> Report:
        report = poll(self)
        return evolve(report, done=None, total=None) if report.exited else report

    monkeypatch.setattr(FakeWorkload, "poll", forgetful)
    cluster.submit("a")
    cluster.worker().run()
    record = cluster.record("a")
    assert record.progress.done in {298, 299}
    assert record.progress.total == 300
    assert record.progress.rate == pytest.approx(1.0, abs=0.02)


def test_a_delivery_is_never_held_past_its_limit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long MAX_RUNNING_TIME is, an attempt pauses before the queue would take its delivery away."""
    monkeypatch.setattr("lifecycle.attempt.supervisor.TICK_S", 30.0)
    cluster.submit("a", "1\n5000\n", STATE_SAVING_INTERVAL=3600)
    cluster.worker(step_s=10.0, max_running_time=timedelta(days=7)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "completed"]
    assert record.attempts[0].steps == pytest.approx(11.5 * 360, abs=4)


def test_a_workload_whose_time_went_into_loading_is_not_to_blame(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where most of a delivery's time is gone when it starts, it is no failure that it leaves no checkpoint."""
    monkeypatch.setattr("lifecycle.attempt.supervisor.DELIVERY_LIMIT", timedelta(seconds=400))
    monkeypatch.setattr(FakeWorkload, "_announce", lambda _: None)
    cluster.submit("a")
    loads = [300.0, 0.0]

    def slow(name: str, *args: object, **_: object) -> None:
        if name.startswith("get") and "input.txt" in str(args[0]):
            cluster.clock.sleep(loads.pop(0))

    store = FaultInjection(cluster.memory, before=slow)
    cluster.worker(store=store, max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.PAUSED_FOR_TIMEOUT
    assert record.attempts[0].useful_s < 100
    assert record.failures == 0
    cluster.worker(store=store).run()
    assert cluster.record("a").state is State.COMPLETED


def test_an_invalid_job_gives_the_workloads_own_words_as_the_reason(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its exit code where it has none."""
    said = "grid: 3 is no power of two"
    for job, tail, reason in (("a", said, said), ("b", "", "exit code 65")):
        ended = Report(exited=Exit(65, tail))
        monkeypatch.setattr(FakeWorkload, "poll", lambda _, ended=ended: ended)
        cluster.submit(job)
        cluster.worker(max_jobs=1).run()
        assert cluster.record(job).state is State.FAILED
        assert cluster.record(job).error == reason


@pytest.mark.parametrize(
    ("text", "workload", "reason"),
    [
        (None, "series-sum", "no input"),
        ("x y\n", "series-sum", "input.txt"),
        ("1\n3\n", "unheard-of", "unknown workload 'unheard-of'"),
    ],
)
def test_a_job_that_cannot_succeed_fails_at_once_with_its_reason(
    cluster: Cluster, text: str | None, workload: str, reason: str
) -> None:
    """What is invalid is not tried again, and the record says why in a line."""
    cluster.submit("a", text, workload=workload)
    cluster.worker(max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert reason in (record.error or "")
    assert len(record.attempts) == 1
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_a_failing_workload_is_tried_again_with_growing_delay_and_then_failed(cluster: Cluster) -> None:
    """MAX_FAILURES failures in a row without a new checkpoint fail the job; until then it is handed back."""
    cluster.submit("a")
    cluster.worker(script=lambda _, step: 3 if step == 10 else None).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["workload_failed"] * 3
    assert record.failures == 3
    assert "exit code 3" in (record.error or "")
    assert record.interruptions == {}


def test_progress_resets_the_failures(cluster: Cluster) -> None:
    """A workload that gets further each time is never given up."""
    cluster.submit("a")
    fails_at = {70: 3, 140: 3, 210: 3, 280: 3}
    cluster.worker(script=lambda _, step: fails_at.pop(step, None)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert [attempt.outcome for attempt in record.attempts].count("workload_failed") == 4
    assert cluster.output("a") == "45150"


def test_a_checkpoint_that_goes_no_further_resets_no_failures(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job that fails at one step for ever would be tried for ever, wherever its nodes are drained in between.

    Not even if its files differ: here the time stands in them.
    """
    state = FakeWorkload._state
    monkeypatch.setattr(FakeWorkload, "_state", lambda self: f"{cluster.clock.monotonic():.0f}\n{state(self)}")
    cluster.submit("a")
    fails = {"script": lambda _, step: 3 if step == 70 else None, "max_failures": 2, "max_jobs": 1}
    for failures in (0, 1):  # what fails after a checkpoint counts for nothing
        cluster.worker(**fails).run()
        assert cluster.record("a").failures == failures
    worker = cluster.worker(step_s=1000.0)
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(200)
    worker.drain()
    assert thread.join(100)
    record = cluster.record("a")
    assert record.checkpoint is not None
    assert record.checkpoint.step == 60
    assert record.checkpoint.manifest.startswith(LAYOUT.job("a").manifests + "e3/")
    assert record.failures == 1
    cluster.worker(**fails).run()
    assert cluster.record("a").state is State.FAILED


def test_a_node_that_can_save_nothing_gives_its_job_to_another(cluster: Cluster) -> None:
    """After its patience, and asks to be replaced; what it could not save is done again elsewhere."""
    cluster.submit("a", "1\n3000\n")

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]):
            raise RetryableError("no way to the bucket, on purpose")

    began = cluster.clock.monotonic()
    assert (
        cluster.worker(store=FaultInjection(cluster.memory, before=refuse), patience=timedelta(seconds=200)).run() == 1
    )
    assert cluster.clock.monotonic() - began < 600
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert record.interruptions == {"uploads_hopeless": 1}
    assert record.failures == 0
    assert "nothing could be uploaded from this node for 0:03:20" in (record.error or "")
    assert cluster.worker(max_jobs=1).run() == 0
    assert cluster.record("a").state is State.COMPLETED


@pytest.fixture
def takes_no_outputs(cluster: Cluster) -> FaultInjection:
    """A store that takes what a job of 300 seconds saves, but not what it leaves in the end."""

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() > 290:
            raise RetryableError("no way to the bucket, on purpose")

    return FaultInjection(cluster.memory, before=refuse)


def test_a_job_is_cancelled_while_its_outputs_cannot_be_uploaded(
    cluster: Cluster, takes_no_outputs: FaultInjection
) -> None:
    """At its owner's next beat, and not when that has lost its patience."""
    cluster.submit("a")
    worker = cluster.worker(store=takes_no_outputs)
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(320)
    ask_to_cancel(cluster)
    cluster.clock.sleep(60)
    assert cluster.record("a").state is State.CANCELLED
    worker.drain()
    assert thread.join(1000)


def test_a_worker_drained_while_it_cannot_upload_the_outputs_hands_back(
    cluster: Cluster, takes_no_outputs: FaultInjection
) -> None:
    """Within its grace; and it is no sign of an unfit node: the next one goes on from the last checkpoint."""
    cluster.submit("a")
    worker = cluster.worker(store=takes_no_outputs, stop_grace=timedelta(seconds=20))
    codes: list[int] = []
    thread = cluster.clock.start_thread(unless_dead(lambda: codes.append(worker.run())), name="worker")
    cluster.clock.sleep(320)
    worker.drain()
    assert thread.join(20)
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert record.interruptions == {"drained": 1}
    assert codes == [0]
    cluster.worker(max_jobs=1).run()
    assert cluster.record("a").attempts[-1].resumed_step in {240, 241}
    assert cluster.output("a") == "45150"


def test_an_owned_record_that_names_no_attempt_is_taken_over(cluster: Cluster) -> None:
    """Whoever wrote it: a record must not be able to end every worker that meets it."""
    keys = cluster.submit("a")
    stored = cluster.stored("a")
    cluster.record_store.write(
        keys.record, evolve(stored.record, state=State.RUNNING, epoch=3, owner="gone", lease_s=60.0), stored.version
    )
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.interruptions == {"node_lost": 1}
    assert [attempt.epoch for attempt in record.attempts] == [4]


def test_a_job_that_leaves_nothing_of_all_its_time_is_not_repeated_for_ever(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pauses, and begins anew; but that counts as a failure, and the record says what is to be done about it."""
    monkeypatch.setattr(FakeWorkload, "_announce", lambda _: None)
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100), max_jobs=5).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "timeout", "workload_failed"]
    assert record.failures == 3
    assert "it ran for 0:01:40 and left no checkpoint" in (record.error or "")


def test_a_job_whose_checkpoints_the_store_would_not_take_is_not_to_blame(cluster: Cluster) -> None:
    """It pauses with nothing saved, which counts as nothing; when the store is well again, it is carried to its end."""
    cluster.submit("a")

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() < down_until:
            raise RetryableError("503, on purpose")

    down_until = cluster.clock.monotonic() + 2000
    store = FaultInjection(cluster.memory, before=refuse)
    cluster.worker(store=store, max_running_time=timedelta(seconds=100), patience=timedelta(seconds=200)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.interruptions["timeout"] > 5
    assert record.failures == 0


@pytest.mark.parametrize("interval_s", [60, 1000], ids=["of checkpoints too", "of outputs"])
def test_files_that_cannot_be_read_are_not_the_nodes_fault(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, interval_s: int
) -> None:
    """Another node would find the same: of outputs, it counts as a failure. A checkpoint is left out, and said."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "state.txt")

    monkeypatch.setattr("lifecycle.checkpoint.chunker.Chunker.chunk_file", refuse)
    cluster.submit("a", STATE_SAVING_INTERVAL=interval_s)
    assert cluster.worker().run() == 0
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["workload_failed"] * 3
    assert record.attempts[0].useful_s == pytest.approx(300, abs=2)
    assert "its files cannot be saved: [Errno 13] Permission denied: 'state.txt'" in (record.error or "")


def test_a_disk_that_fails_is_the_nodes_fault(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on elsewhere, and the node asks to be replaced."""
    asked: list[str] = []

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cluster.submit("a")
    with monkeypatch.context() as patch:
        patch.setattr("lifecycle.attempt.checkpoint_scheduler.capture_announced", fail)
        patch.setattr(LocalNode, "reallocate", lambda _, why: asked.append(why))
        assert cluster.worker().run() == 1
    record = cluster.record("a")
    assert asked == [record.error]
    assert (record.state, record.failures, record.interruptions) == (State.RELEASED, 0, {"node_unfit": 1})
    assert "the disk is full" in (record.error or "")
    assert cluster.worker().run() == 0
    assert cluster.output("a") == "45150"


def test_a_node_keeps_the_files_of_one_unfinished_job(cluster: Cluster) -> None:
    """Those of the one that it had last, in case that it comes back."""
    for job in "ab":
        cluster.submit(job)
    cluster.worker(script=lambda launch, step: 3 if step == 10 else None, max_jobs=2).run()
    assert [cluster.record(job).state for job in "ab"] == [State.RELEASED] * 2
    assert [folder.name for folder in (cluster.root / "node1").iterdir()] == ["b"]


def test_a_record_of_a_newer_holdfast_is_left_for_a_newer_worker(cluster: Cluster) -> None:
    """Its message is there again soon, however long a lease is."""
    keys = cluster.submit("a")
    cluster.clock.sleep(2)
    cluster.memory.put(keys.record, b'{"schema": 99}')
    cluster.worker(lease=timedelta(hours=1), idle_exit=timedelta(seconds=30)).run()
    stored = cluster.memory.get(keys.record)
    assert stored is not None
    assert stored.body == b'{"schema": 99}'
    cluster.clock.sleep(120)
    assert cluster.queue.depth().available == 1


def test_an_idle_worker_stays_as_long_as_it_is_to(cluster: Cluster) -> None:
    """For ever, where no limit is set; and a health check is content."""
    worker = cluster.worker(idle_exit=timedelta(0))
    signs: list[float] = []
    worker._context = evolve(worker._context, alive=lambda: signs.append(cluster.clock.monotonic()))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(86_400)
    assert cluster.clock.monotonic() - signs[-1] <= 30
    worker.drain()
    assert thread.join(30)
    began = cluster.clock.monotonic()
    cluster.worker(idle_exit=timedelta(seconds=3)).run()
    assert cluster.clock.monotonic() - began < 5


def test_the_same_message_many_times_is_one_attempt(cluster: Cluster) -> None:
    """Duplicates find a live lease and are handed back; afterwards they find a finished job and are deleted."""
    cluster.submit("a")
    cluster.queue.send([announce(cluster.record("a"), 1)] * 19)
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert len(record.attempts) == 1
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_a_cancelled_job_ends_at_the_next_beat(cluster: Cluster) -> None:
    """The owner meets the operator's write as a conflict under its own epoch, keeps it, and acts."""
    cluster.submit("a")
    worker = cluster.worker()
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    ask_to_cancel(cluster)
    cluster.clock.sleep(60)
    record = cluster.record("a")
    assert record.state is State.CANCELLED
    assert record.checkpoint is not None
    assert record.checkpoint.step == 120
    worker.drain()
    assert thread.join(1000)


def test_a_drained_worker_saves_and_hands_back_at_once(cluster: Cluster) -> None:
    """Nothing is lost, the state is released, and the message is visible to the next worker."""
    cluster.submit("a")
    worker = cluster.worker()
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100.5)
    worker.drain()
    assert thread.join(30)
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert record.interruptions == {"drained": 1}
    assert record.failures == 0
    assert record.checkpoint is not None
    saved = record.checkpoint.step
    assert saved is not None
    assert saved > 95
    assert cluster.queue.depth().available == 1
    cluster.worker().run()
    assert cluster.record("a").attempts[1].resumed_step == saved
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '{"job": "../../etc"}', '{"job": "unrecorded"}'])
def test_a_message_that_is_no_job_is_put_aside(cluster: Cluster, body: str) -> None:
    """It is kept under rejected/ with the reason, dead-lettered, and deleted."""
    cluster.submit("other")
    original = cluster.queue._messages[0]
    original.message = evolve(original.message, body=body or " ")
    cluster.worker().run()
    rejected = [cluster.memory.get(listed.key) for listed in cluster.memory.list(LAYOUT.rejected)]
    assert len(rejected) == 1
    assert rejected[0] is not None
    assert b'"why"' in rejected[0].body
    assert len(cluster.queue.dead) == 1
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_an_output_of_any_name_is_published_under_an_ascii_key(tmp_path: Path) -> None:
    """Keys are ASCII; the manifest has the name as it was, also where that is no UTF-8."""
    cluster = Cluster(tmp_path)
    folder = tmp_path / "made" / "output"
    folder.mkdir(parents=True)
    for name in (b"plain", "ü b".encode(), b"\xff"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_text("x")
    keys = LAYOUT.job("a")
    saved = keep(cluster.memory, keys, folder.parent)
    result = Result(saved.ref, files=3, bytes=3)
    publish(cluster.memory, cluster.clock, keys, JobRecord("a", "w", state=State.COMPLETED, result=result))
    published = [listed.key.removeprefix(keys.output) for listed in cluster.memory.list(keys.output)]
    assert published == ["%C3%BC%20b", "%FF", "plain"]
    fill(cluster.memory, cluster.clock, fetch_manifest(cluster.memory, saved.ref).files, tmp_path / "back")
    back = tmp_path / "back" / "output"
    assert sorted(path.name for path in back.iterdir()) == sorted(path.name for path in folder.iterdir())


def test_a_demo_job_that_is_begun_anew_does_not_go_on_from_its_copy(cluster: Cluster) -> None:
    """Of `state.txt` only what the demo's own worker left is taken up, and not what our checkpoints left there."""
    cluster.memory.put("runs/a/input.txt", b"1\n300\n")
    body = json.dumps({"bucket": "", "folder": "runs/a", "parameters": {}})
    cluster.queue.send([Message(body=body, job="a", dedup="1")])
    cluster.worker(max_running_time=timedelta(seconds=100), max_jobs=1).run()
    assert cluster.memory.get("runs/a/state.txt")
    stored = cluster.stored("a")
    anew = evolve(stored.record, state=State.QUEUED, epoch=stored.record.epoch + 1, checkpoint=None, fallback=None)
    cluster.record_store.write(LAYOUT.job("a").record, anew, stored.version)
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.attempts[1].useful_s >= 300


def test_outputs_that_could_not_be_published_are_tried_again_soon(cluster: Cluster) -> None:
    """Long before the delivery would come back by itself; the message is gone then."""
    cluster.submit("a")
    tries: list[float] = []

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/output/" in str(args[0]):
            tries.append(cluster.clock.monotonic())
            if len(tries) == 1:
                raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse)).run()
    assert cluster.record("a").is_settled
    assert 30 <= tries[1] - tries[0] < 60
    assert cluster.queue.depth() == Depth(0, 0, 0)


def test_who_publishes_for_another_stays_known_to_live(cluster: Cluster) -> None:
    """Large outputs take longer than a lease: the message is nobody else's meanwhile, and a health check is content."""
    cluster.submit("a")
    cuts = [True]

    def slow(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/output/" in str(args[0]):
            if cuts and cuts.pop():
                raise RetryableError("503, on purpose")
            cluster.clock.sleep(1000)

    worker = cluster.worker(store=FaultInjection(cluster.memory, before=slow))
    signs: list[float] = []
    worker._context = evolve(worker._context, alive=lambda: signs.append(cluster.clock.monotonic()))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(1000)
    assert not cluster.record("a").is_settled
    assert cluster.queue.receive(hidden=timedelta(seconds=1), wait=timedelta(0)) is None
    assert cluster.clock.monotonic() - signs[-1] <= 30
    cluster.clock.sleep(1000)
    assert cluster.record("a").is_settled
    assert cluster.output("a") == "45150"
    worker.drain()
    assert thread.join(1000)
    ended = len(signs)
    cluster.clock.sleep(1000)
    assert len(signs) == ended


def test_outputs_that_no_key_can_name_settle_the_job(cluster: Cluster) -> None:
    """Trying again would not help: the record says why, and the message goes."""
    cluster.submit("a")

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/output/" in str(args[0]):
            raise PermanentError("KeyTooLongError, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.is_settled
    assert "KeyTooLongError" in (record.error or "")
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_a_folder_made_in_a_browser_is_no_input(cluster: Cluster) -> None:
    """Those leave an empty object whose name ends with a slash; what lies beside it counts."""
    keys = cluster.submit("a")
    for folder in (keys.input, f"{keys.input}more/"):
        cluster.memory.put(folder, b"")
    cluster.worker().run()
    assert cluster.output("a") == "45150"
    keys = cluster.submit("b", None)
    cluster.memory.put(keys.input, b"")
    cluster.worker().run()
    assert "no input" in (cluster.record("b").error or "")


def test_a_workload_that_makes_no_step_is_taken_to_hang(cluster: Cluster) -> None:
    """It is killed, and counted as a failure with that reason; after three of them the job has failed."""
    cluster.submit("a")
    cluster.worker(step_s=1000.0, workload={"silence": timedelta(minutes=5)}).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["workload_failed"] * 3
    assert "no step in 0:05:00: it was taken to hang, and killed" in (record.error or "")


def test_a_workload_that_makes_steps_is_not_taken_to_hang(cluster: Cluster) -> None:
    """However long it runs."""
    cluster.submit("a")
    cluster.worker(workload={"silence": timedelta(seconds=20)}, step_s=10.0).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]


def test_a_job_may_run_so_long_in_all(cluster: Cluster) -> None:
    """Over every attempt; what it had saved is kept, and the reason is said."""
    cluster.submit("a")
    workload = {"wall_time": timedelta(seconds=200)}
    cluster.worker(workload=workload, max_running_time=timedelta(seconds=80)).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "timeout", "wall_time"]
    assert "wall_time" in (record.error or "")
    assert 200 <= record.ran_s < 203
    assert record.checkpoint is not None
    assert record.checkpoint.step is not None
    assert record.checkpoint.step >= 195


def test_a_snapshot_that_fails_the_workloads_own_check_is_not_committed(cluster: Cluster) -> None:
    """The job goes on without it; outputs are none of its business."""
    cluster.submit("a")
    cluster.worker(check="its check says 1: broken trajectory").run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.checkpoint is None
    log = cluster.memory.get(LAYOUT.job("a").log(1))
    assert log is not None
    assert log.body.count(b"broken trajectory") == 4


def test_state_among_the_outputs_is_checked_too(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may keep all that it has in one folder; what it leaves there when it is done is its result."""
    overwrite = FakeWorkload._overwrite
    monkeypatch.setattr(FakeWorkload, "_overwrite", lambda self, _: overwrite(self, self._launch.dirs.output))
    cluster.submit("a", silent=True)
    workload = {"checkpoint": ("output/**",)}
    cluster.worker(check="its check says 1: broken trajectory", workload=workload).run()
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.record("a").checkpoint is None


def test_a_last_snapshot_that_fails_the_workloads_own_check_is_not_tried_again(cluster: Cluster) -> None:
    """It would fail again: a drained worker hands the job back at once, as it was saved before."""
    cluster.submit("a")
    worker = cluster.worker(check="its check says 1: broken trajectory")
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    worker.drain()
    assert thread.join(5)
    assert cluster.record("a").state is State.RELEASED
    assert cluster.record("a").checkpoint is None


def test_what_is_not_in_the_bucket_yet_is_told(cluster: Cluster) -> None:
    """While the store takes no pack, the record says how much waits, and since when; afterwards, that nothing does."""
    cluster.submit("a")
    seen: list[JobRecord] = []

    def look(name: str, *args: object, **_: object) -> None:
        if cluster.clock.monotonic() > 200:
            return
        if name == "put" and "/records/" in str(args[0]):
            seen.append(cluster.record("a"))
        if name == "put" and "/packs/" in str(args[0]):
            raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=look)).run()
    waiting = [record.backlog for record in seen if record.backlog]
    assert waiting
    assert waiting[0].bytes > 500
    assert waiting[-1].bytes > waiting[0].bytes
    assert waiting[-1].since == waiting[0].since
    assert cluster.record("a").backlog is None


def test_uploads_keep_their_cap(cluster: Cluster) -> None:
    """So many bytes a second of packs and manifests, however long a checkpoint then takes."""
    cluster.submit("a")
    puts: list[tuple[float, int]] = []

    def look(name: str, *args: Any, **_: object) -> None:
        if name == "put" and ("/packs/" in args[0] or "/checkpoints/" in args[0]):
            puts.append((cluster.clock.monotonic(), len(args[1])))

    cluster.worker(store=FaultInjection(cluster.memory, before=look), upload_limit=4).run()
    assert cluster.output("a") == "45150"
    sent = sum(size for _, size in puts[:-1])
    assert round(puts[-1][0] - puts[0][0], 3) >= sent / 4


def test_a_growing_output_is_carried_along(cluster: Cluster) -> None:
    """The next attempt finds as much of it as belongs to the checkpoint, and it is whole at the end."""
    cluster.submit("a")
    workload = {"growing": ("output/*.log",)}
    cluster.worker(workload=workload, max_running_time=timedelta(seconds=80)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout"] * 3 + ["completed"]
    stored = cluster.memory.get(f"{LAYOUT.job('a').output}steps.log")
    assert stored is not None
    assert stored.body == trace_bytes(300)


def test_an_input_that_changes_while_it_is_read_in_pieces_is_read_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workload never sees the first half of one file and the second of another."""
    monkeypatch.setattr("lifecycle.attempt.input_files.RANGE_BYTES", 4)
    keys = cluster.submit("a")
    changes = [b"1\n200\n"]

    def change(name: str, *args: object, **_: object) -> None:
        if name == "get_range" and changes:
            cluster.memory.put(f"{keys.input}input.txt", changes.pop())

    cluster.worker(store=FaultInjection(cluster.memory, after=change)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["unreadable", "completed"]
    assert cluster.output("a") == "20100"


def test_an_end_that_cannot_be_recorded_is_tried_again_after_a_while(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Every two seconds, and not as fast as the store refuses."""
    cluster.submit("a")
    down = (cluster.clock.monotonic() + 290, cluster.clock.monotonic() + 400)

    def refuse(_: str, *args: object, **__: object) -> None:
        if "/records/" in str(args[:1]) and down[0] < cluster.clock.monotonic() < down[1]:
            raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert 40 <= caplog.text.count("outcome.not_recorded job=a outcome=completed") <= 52


def test_what_was_uploaded_and_never_committed_pushes_no_checkpoint_out(cluster: Cluster) -> None:
    """Both that the record names stay in the bucket, when the attempt ends otherwise before it could commit."""
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=130), max_jobs=1).run()
    before = cluster.record("a")
    down = (cluster.clock.monotonic() + 59, cluster.clock.monotonic() + 100)

    def refuse(_: str, *args: object, **__: object) -> None:
        if "/records/" in str(args[:1]) and down[0] < cluster.clock.monotonic() < down[1]:
            raise RetryableError("503, on purpose")

    store = FaultInjection(cluster.memory, before=refuse)
    cluster.worker(store=store, script=lambda _, step: 65 if step == 200 else None).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert (record.checkpoint, record.fallback) == (before.checkpoint, before.fallback)
    keys = set(cluster.keys_of("a"))
    assert any("/checkpoints/e2/" in key for key in keys)
    for ref in (record.checkpoint, record.fallback):
        assert ref is not None
        assert ref.manifest in keys


def test_a_log_is_never_shipped_twice_at_once(cluster: Cluster) -> None:
    """Where the courier hangs in the store at the attempt's end, the last lines are left out: they are a courtesy."""
    cluster.submit("a", "1\n100\n")
    shipping: list[float] = []

    def hang(name: str, *args: object, **_: object) -> None:
        if name == "put" and args[0] == LAYOUT.job("a").log(1):
            shipping.append(cluster.clock.monotonic())
            if len(shipping) == 2:
                cluster.clock.sleep(1000)

    cluster.worker(store=FaultInjection(cluster.memory, before=hang)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert len(shipping) == 2
    assert shipping[-1] < 100
