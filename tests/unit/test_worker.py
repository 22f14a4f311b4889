"""The life of a job in a worker, on in-memory ports and virtual time."""

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


def request_cancellation(cluster: Cluster) -> None:
    """Cancel an owned job, as an operator does."""
    stored = cluster.stored("a")
    asked = evolve(stored.record, control=evolve(stored.record.control, cancel=True))
    cluster.record_store.write(LAYOUT.job("a").record, asked, stored.version)


def test_a_job_is_completed(cluster: Cluster) -> None:
    """A completed job has its output and a settled record without owner, and its message is deleted."""
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


def test_only_referenced_objects_remain(cluster: Cluster) -> None:
    """After the end there are only the input, the last checkpoint, the result, its published copy, and the log."""
    cluster.submit("a")
    cluster.worker().run()
    kinds = sorted(key.removeprefix("runs/a/").split("/")[0] for key in cluster.keys_of("a"))
    assert kinds == ["checkpoints", "checkpoints", "input", "log", "output", "packs", "packs"]
    assert not list((cluster.root / "node1").iterdir())


def test_a_long_job_pauses_and_continues_with_a_new_message(cluster: Cluster) -> None:
    """MAX_RUNNING_TIME ends an attempt, not the job; no work is lost, and there is one message at any time."""
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
    """Useful time is the workload's; it excludes the last upload."""
    cluster.submit("a")

    def slow(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() > 300:
            cluster.clock.sleep(100)

    cluster.worker(store=FaultInjection(cluster.memory, before=slow)).run()
    record = cluster.record("a")
    assert 300 <= record.attempts[0].useful_s < 303
    assert record.ran_s == record.attempts[0].useful_s


def test_a_workload_may_report_no_progress(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workload without steps resumes from its checkpoints, which count as progress."""
    poll = FakeWorkload.poll

    def without_steps(self: FakeWorkload) -> Report:
        report = poll(self)
        announced = evolve(report.announced, step=None) if report.announced else None
        return evolve(report, done=None, total=None, announced=announced)

    monkeypatch.setattr(FakeWorkload, "poll", without_steps)
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.progress == Progress()
    assert [attempt.steps for attempt in record.attempts] == [0] * 3
    assert [attempt.commits for attempt in record.attempts] == [2, 2, 1]
    assert cluster.output("a") == "45150"


def test_the_running_time_is_recorded_without_progress(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running time is recorded even if a workload reports nothing, so it is accounted for if the node vanishes."""
    poll = FakeWorkload.poll
    monkeypatch.setattr(FakeWorkload, "poll", lambda self: evolve(poll(self), done=None, total=None))
    cluster.submit("a")
    worker = cluster.worker(state_saving_interval=timedelta(hours=1))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(200)
    assert 150 <= cluster.record("a").attempts[0].useful_s <= 200
    worker.drain()
    assert thread.join(1000)


def test_the_last_reported_progress_counts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last reported progress counts, even if the program removes its report at exit."""
    poll = FakeWorkload.poll

    def without_final_report(self: FakeWorkload) -> Report:
        report = poll(self)
        return evolve(report, done=None, total=None) if report.exited else report

    monkeypatch.setattr(FakeWorkload, "poll", without_final_report)
    cluster.submit("a")
    cluster.worker().run()
    record = cluster.record("a")
    assert record.progress.done in {298, 299}
    assert record.progress.total == 300
    assert record.progress.rate == pytest.approx(1.0, abs=0.02)


def test_a_delivery_is_never_held_past_its_limit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long MAX_RUNNING_TIME is, an attempt pauses before the queue's limit for a delivery."""
    monkeypatch.setattr("lifecycle.attempt.supervisor.TICK_S", 30.0)
    cluster.submit("a", "1\n5000\n", STATE_SAVING_INTERVAL=3600)
    cluster.worker(step_s=10.0, max_running_time=timedelta(days=7)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "completed"]
    assert record.attempts[0].steps == pytest.approx(11.5 * 360, abs=4)


def test_an_attempt_spent_on_staging_is_not_a_failure(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that leaves no checkpoint is not a failure if staging took most of the delivery's time."""
    monkeypatch.setattr("lifecycle.attempt.supervisor.DELIVERY_LIMIT", timedelta(seconds=400))
    monkeypatch.setattr(FakeWorkload, "_announce", lambda _: None)
    cluster.submit("a")
    staging_s = [300.0, 0.0]

    def slow(name: str, *args: object, **_: object) -> None:
        if name.startswith("get") and "input.txt" in str(args[0]):
            cluster.clock.sleep(staging_s.pop(0))

    store = FaultInjection(cluster.memory, before=slow)
    cluster.worker(store=store, max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.PAUSED_FOR_TIMEOUT
    assert record.attempts[0].useful_s < 100
    assert record.failures == 0
    cluster.worker(store=store).run()
    assert cluster.record("a").state is State.COMPLETED


def test_an_invalid_job_has_the_workloads_message_as_reason(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the end of the workload's output, or its exit code if there is none."""
    message = "grid: 3 is no power of two"
    for job, tail, reason in (("a", message, message), ("b", "", "exit code 65")):
        ended = Report(exited=Exit(65, tail))
        monkeypatch.setattr(FakeWorkload, "poll", lambda _, ended=ended: ended)
        cluster.submit(job)
        cluster.worker(max_jobs=1).run()
        assert cluster.record(job).state is State.FAILED
        assert cluster.record(job).error == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no input"),
        ("x y\n", "input.txt"),
    ],
)
def test_an_invalid_job_fails_at_once_with_its_reason(cluster: Cluster, text: str | None, reason: str) -> None:
    """An invalid job is not retried, and the record has the reason in one line."""
    cluster.submit("a", text)
    cluster.worker(max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert reason in (record.error or "")
    assert len(record.attempts) == 1
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_a_failing_workload_is_retried_and_then_fails_the_job(cluster: Cluster) -> None:
    """MAX_FAILURES failures in a row without a new checkpoint fail the job; until then it is released."""
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
    failing_steps = {70: 3, 140: 3, 210: 3, 280: 3}
    cluster.worker(script=lambda _, step: failing_steps.pop(step, None)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert [attempt.outcome for attempt in record.attempts].count("workload_failed") == 4
    assert cluster.output("a") == "45150"


def test_a_checkpoint_without_progress_resets_no_failures(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint at a step that was reached before does not reset the failures, even if its files differ.

    Otherwise a job that always fails at one step would be retried forever if its nodes are drained in between. Here
    the files differ because they contain the time.
    """
    state = FakeWorkload._state
    monkeypatch.setattr(FakeWorkload, "_state", lambda self: f"{cluster.clock.monotonic():.0f}\n{state(self)}")
    cluster.submit("a")
    failing: dict[str, Any] = {"script": lambda _, step: 3 if step == 70 else None, "max_failures": 2, "max_jobs": 1}
    for failures in (0, 1):  # a failure after a checkpoint is not counted
        cluster.worker(**failing).run()
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
    for failures in (2, 3, 4):  # the third failed resume in all is the second from this checkpoint: it is given up
        cluster.worker(**failing).run()
        assert cluster.record("a").failures == failures
    assert cluster.record("a").state is State.FAILED


def test_a_node_that_cannot_upload_releases_its_job(cluster: Cluster) -> None:
    """A node whose uploads fail for longer than `patience` releases its job and asks to be replaced."""
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
def store_without_outputs(cluster: Cluster) -> FaultInjection:
    """Return a store that accepts the checkpoints of a job of 300 seconds, but not its outputs."""

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() > 290:
            raise RetryableError("no way to the bucket, on purpose")

    return FaultInjection(cluster.memory, before=refuse)


def test_a_job_is_cancelled_while_its_outputs_cannot_be_uploaded(
    cluster: Cluster, store_without_outputs: FaultInjection
) -> None:
    """A cancellation takes effect at the next heartbeat, even while the outputs cannot be uploaded."""
    cluster.submit("a")
    worker = cluster.worker(store=store_without_outputs)
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(320)
    request_cancellation(cluster)
    cluster.clock.sleep(60)
    assert cluster.record("a").state is State.CANCELLED
    worker.drain()
    assert thread.join(1000)


def test_a_drained_worker_that_cannot_upload_releases_the_job(
    cluster: Cluster, store_without_outputs: FaultInjection
) -> None:
    """A drained worker releases within its grace period even if outputs cannot be uploaded; the node is not unfit."""
    cluster.submit("a")
    worker = cluster.worker(store=store_without_outputs, stop_grace=timedelta(seconds=20))
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
    """An owned record without attempts is taken over: no record may crash the workers that read it."""
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


def test_an_attempt_without_a_checkpoint_is_a_failure(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that used all its running time without a checkpoint is a failure, and the error says what to do."""
    monkeypatch.setattr(FakeWorkload, "_announce", lambda _: None)
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100), max_jobs=5).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["timeout", "timeout", "workload_failed"]
    assert record.failures == 3
    assert "it ran for 0:01:40 and left no checkpoint" in (record.error or "")


def test_an_attempt_without_a_checkpoint_during_an_outage_is_not_a_failure(cluster: Cluster) -> None:
    """A pause without a checkpoint is not a failure if the store refused the uploads."""
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


@pytest.mark.parametrize("interval_s", [60, 1000], ids=["checkpoints and outputs", "outputs"])
def test_unreadable_files_are_a_failure_of_the_job(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, interval_s: int
) -> None:
    """Unreadable outputs are a failure of the job, not of the node; unreadable checkpoints are skipped and reported."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "state.txt")

    monkeypatch.setattr("lifecycle.checkpoint.chunker.Chunker.chunk_file", refuse)
    cluster.submit("a", STATE_SAVING_INTERVAL=interval_s)
    assert cluster.worker().run() == 0
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["workload_failed"] * 3
    assert record.attempts[0].useful_s == pytest.approx(300, abs=2)
    assert "its files cannot be saved: Permission denied: state.txt" in (record.error or "")


def test_a_failing_disk_is_a_failure_of_the_node(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the node's disk fails, the job is released without a failure, and the node asks to be replaced."""
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
    """A node keeps the files of the last unfinished job, in case it returns."""
    for job in "ab":
        cluster.submit(job)
    cluster.worker(script=lambda launch, step: 3 if step == 10 else None, max_jobs=2).run()
    assert [cluster.record(job).state for job in "ab"] == [State.RELEASED] * 2
    assert [folder.name for folder in (cluster.root / "node1").iterdir()] == ["b"]


def test_a_record_with_a_newer_schema_is_left_for_a_newer_worker(cluster: Cluster) -> None:
    """A record with a newer schema is not changed, and its message returns soon, however long the lease."""
    keys = cluster.submit("a")
    cluster.clock.sleep(2)
    cluster.memory.put(keys.record, b'{"schema": 99}')
    cluster.worker(lease=timedelta(hours=1), idle_exit=timedelta(seconds=30)).run()
    stored = cluster.memory.get(keys.record)
    assert stored is not None
    assert stored.body == b'{"schema": 99}'
    cluster.clock.sleep(120)
    assert cluster.queue.depth().available == 1


def test_an_idle_worker_exits_after_its_limit(cluster: Cluster) -> None:
    """An idle worker exits after its limit, and without a limit never; meanwhile it stays healthy."""
    worker = cluster.worker(idle_exit=timedelta(0))
    health_reports: list[float] = []
    worker._context = evolve(worker._context, alive=lambda: health_reports.append(cluster.clock.monotonic()))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(86_400)
    assert cluster.clock.monotonic() - health_reports[-1] <= 30
    worker.drain()
    assert thread.join(30)
    began = cluster.clock.monotonic()
    cluster.worker(idle_exit=timedelta(seconds=3)).run()
    assert cluster.clock.monotonic() - began < 5


def test_the_same_message_many_times_is_one_attempt(cluster: Cluster) -> None:
    """Duplicates of a message are returned while the lease is fresh, and deleted once the job is final."""
    cluster.submit("a")
    cluster.queue.send([announce(cluster.record("a"), 1)] * 19)
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert len(record.attempts) == 1
    assert cluster.queue.depth().available + cluster.queue.depth().in_flight == 0


def test_a_cancelled_job_ends_at_the_next_heartbeat(cluster: Cluster) -> None:
    """The owner's heartbeat conflicts with the operator's write at the same epoch, keeps it, and the attempt ends."""
    cluster.submit("a")
    worker = cluster.worker()
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    request_cancellation(cluster)
    cluster.clock.sleep(60)
    record = cluster.record("a")
    assert record.state is State.CANCELLED
    assert record.checkpoint is not None
    assert record.checkpoint.step == 120
    worker.drain()
    assert thread.join(1000)


def test_a_drained_worker_saves_and_releases_at_once(cluster: Cluster) -> None:
    """A drained worker commits a last checkpoint and releases the job, and the message is visible at once."""
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


@pytest.mark.parametrize(
    "body", ["", "nonsense", "[]", '{"job": "../../etc"}', '{"job": "a", "bucket": "", "prefix": "runs"}']
)
def test_an_invalid_message_is_rejected(cluster: Cluster, body: str) -> None:
    """An invalid message is kept under rejected/ with the reason, dead-lettered, and deleted."""
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
    """Published keys are ASCII, and the manifest has the original name, even if that is not UTF-8."""
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


def test_a_restarted_demo_job_ignores_its_published_state(cluster: Cluster) -> None:
    """A demo job resumes from a `state.txt` of the demo's own worker, but not from one that Holdfast published."""
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


def test_failed_publishing_is_retried_soon(cluster: Cluster) -> None:
    """Publishing that fails is retried long before the delivery expires, and then the message is deleted."""
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


def test_publishing_extends_the_delivery_and_stays_healthy(cluster: Cluster) -> None:
    """A worker that publishes another's outputs for longer than a lease extends the delivery and reports its health."""
    cluster.submit("a")
    failures = [True]

    def slow(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/output/" in str(args[0]):
            if failures and failures.pop():
                raise RetryableError("503, on purpose")
            cluster.clock.sleep(1000)

    worker = cluster.worker(store=FaultInjection(cluster.memory, before=slow))
    health_reports: list[float] = []
    worker._context = evolve(worker._context, alive=lambda: health_reports.append(cluster.clock.monotonic()))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(1000)
    assert not cluster.record("a").is_settled
    assert cluster.queue.receive(hidden=timedelta(seconds=1), wait=timedelta(0)) is None
    assert cluster.clock.monotonic() - health_reports[-1] <= 30
    cluster.clock.sleep(1000)
    assert cluster.record("a").is_settled
    assert cluster.output("a") == "45150"
    worker.drain()
    assert thread.join(1000)
    ended = len(health_reports)
    cluster.clock.sleep(1000)
    assert len(health_reports) == ended


def test_outputs_that_cannot_be_published_settle_the_job(cluster: Cluster) -> None:
    """A permanent error settles the job: the record has the reason, and the message is deleted."""
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


def test_a_folder_marker_is_not_an_input(cluster: Cluster) -> None:
    """An empty object whose name ends with a slash, as browsers create for a folder, is not an input."""
    keys = cluster.submit("a")
    for folder in (keys.input, f"{keys.input}more/"):
        cluster.memory.put(folder, b"")
    cluster.worker().run()
    assert cluster.output("a") == "45150"
    keys = cluster.submit("b", None)
    cluster.memory.put(keys.input, b"")
    cluster.worker().run()
    assert "no input" in (cluster.record("b").error or "")


def test_a_workload_without_steps_is_killed(cluster: Cluster) -> None:
    """A workload without a step for its silence limit is killed, and counts as a failure with that reason."""
    cluster.submit("a")
    cluster.worker(step_s=1000.0, workload={"silence": timedelta(minutes=5)}).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.outcome for attempt in record.attempts] == ["workload_failed"] * 3
    assert "no step in 0:05:00: it was taken to hang, and killed" in (record.error or "")


def test_a_workload_with_steps_is_not_killed(cluster: Cluster) -> None:
    """A workload that makes steps may run for any time."""
    cluster.submit("a")
    cluster.worker(workload={"silence": timedelta(seconds=20)}, step_s=10.0).run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]


def test_the_wall_time_limits_all_attempts_together(cluster: Cluster) -> None:
    """The wall time counts over all attempts; a job that exceeds it fails and keeps its checkpoint."""
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


def test_a_snapshot_that_fails_its_check_is_not_committed(cluster: Cluster) -> None:
    """A snapshot that fails the workload's check is not committed, and the job goes on; outputs are not checked."""
    cluster.submit("a")
    cluster.worker(check="its check says 1: broken trajectory").run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.checkpoint is None
    log = cluster.memory.get(LAYOUT.job("a").log(1))
    assert log is not None
    assert log.body.count(b"broken trajectory") == 4


def test_state_among_the_outputs_is_checked_too(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """State in the output folder is checked in snapshots, but not in the final outputs."""
    overwrite = FakeWorkload._overwrite
    monkeypatch.setattr(FakeWorkload, "_overwrite", lambda self, _: overwrite(self, self._launch.dirs.output))
    cluster.submit("a", silent=True)
    workload = {"checkpoint": ("output/**",)}
    cluster.worker(check="its check says 1: broken trajectory", workload=workload).run()
    assert cluster.record("a").state is State.COMPLETED
    assert cluster.record("a").checkpoint is None


def test_a_failed_check_of_the_last_snapshot_is_not_repeated(cluster: Cluster) -> None:
    """If the check of the last snapshot fails, a drained worker releases the job at once."""
    cluster.submit("a")
    worker = cluster.worker(check="its check says 1: broken trajectory")
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    worker.drain()
    assert thread.join(5)
    assert cluster.record("a").state is State.RELEASED
    assert cluster.record("a").checkpoint is None


def test_the_record_shows_the_backlog(cluster: Cluster) -> None:
    """While packs cannot be uploaded, the record has the size and the age of the backlog; afterwards it has none."""
    cluster.submit("a")
    seen: list[JobRecord] = []

    def observe(name: str, *args: object, **_: object) -> None:
        if cluster.clock.monotonic() > 200:
            return
        if name == "put" and "/records/" in str(args[0]):
            seen.append(cluster.record("a"))
        if name == "put" and "/packs/" in str(args[0]):
            raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=observe)).run()
    waiting = [record.backlog for record in seen if record.backlog]
    assert waiting
    assert waiting[0].bytes > 500
    assert waiting[-1].bytes > waiting[0].bytes
    assert waiting[-1].since == waiting[0].since
    assert cluster.record("a").backlog is None


def test_uploads_keep_the_upload_limit(cluster: Cluster) -> None:
    """Packs and manifests are sent at no more than the upload limit, however long a checkpoint takes."""
    cluster.submit("a")
    puts: list[tuple[float, int]] = []

    def observe(name: str, *args: Any, **_: object) -> None:
        if name == "put" and ("/packs/" in args[0] or "/checkpoints/" in args[0]):
            puts.append((cluster.clock.monotonic(), len(args[1])))

    cluster.worker(store=FaultInjection(cluster.memory, before=observe), upload_limit=4).run()
    assert cluster.output("a") == "45150"
    sent = sum(size for _, size in puts[:-1])
    assert round(puts[-1][0] - puts[0][0], 3) >= sent / 4


def test_a_growing_output_is_part_of_the_checkpoint(cluster: Cluster) -> None:
    """The next attempt gets the part of a growing file that belongs to the checkpoint; the final file is whole."""
    cluster.submit("a")
    workload = {"growing": ("output/*.log",)}
    cluster.worker(workload=workload, max_running_time=timedelta(seconds=80)).run()
    record = cluster.record("a")
    assert [attempt.outcome for attempt in record.attempts] == ["timeout"] * 3 + ["completed"]
    stored = cluster.memory.get(f"{LAYOUT.job('a').output}steps.log")
    assert stored is not None
    assert stored.body == trace_bytes(300)


def test_an_input_that_changes_during_staging_is_read_again(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workload never sees an input that is made of two versions of an object."""
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


def test_an_unrecorded_outcome_is_retried_with_pauses(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """An outcome that cannot be recorded is retried every two seconds, not as fast as the store refuses."""
    cluster.submit("a")
    down = (cluster.clock.monotonic() + 290, cluster.clock.monotonic() + 400)

    def refuse(_: str, *args: object, **__: object) -> None:
        if "/records/" in str(args[:1]) and down[0] < cluster.clock.monotonic() < down[1]:
            raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert 40 <= caplog.text.count("outcome.not_recorded job=a outcome=completed") <= 52


def test_an_uncommitted_upload_replaces_no_checkpoint(cluster: Cluster) -> None:
    """An upload that was never committed does not replace a checkpoint that the record names."""
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


def test_the_log_is_never_shipped_concurrently(cluster: Cluster) -> None:
    """If the log shipper hangs in the store at the end of an attempt, the last lines are not sent."""
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


def test_a_demo_job_near_the_size_limit_pauses_and_continues(cluster: Cluster) -> None:
    """A pause sends what a worker accepts, so the job completes."""
    body = {"bucket": "", "folder": "runs/big", "parameters": {"STATE_SAVING_INTERVAL": 60, "x": "y" * 262_000}}
    keys = LAYOUT.job("big")
    cluster.memory.put(keys.input_file, b"1\n300\n")
    cluster.queue.send([Message(json.dumps(body), "big", "1")])
    cluster.worker(max_running_time=timedelta(seconds=100)).run()
    record = cluster.record("big")
    assert record.state is State.COMPLETED
    assert [attempt.outcome for attempt in record.attempts][:2] == ["timeout", "timeout"]
    assert len(record.params["x"]) == 262_000
