"""The scheduling of snapshots, for programs that announce checkpoints and for programs that do not."""

import errno
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Checking, Cluster, running_worker
from support.fault_injection import FaultInjection, unless_dead

from adapters.memory.runner import FakeWorkload
from lifecycle.checkpoint.capture import capture_files
from lifecycle.checkpoint.chunker import Chunker
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.ports.runner import Exit, Report
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def step(record: JobRecord) -> int:
    """Return the step of the record's checkpoint."""
    assert record.checkpoint is not None
    assert record.checkpoint.step is not None
    return record.checkpoint.step


def log(cluster: Cluster, epoch: int) -> bytes:
    """Return the event log of an attempt."""
    stored = cluster.memory.get(LAYOUT.job("a").log(epoch))
    assert stored is not None
    return stored.body


def test_files_are_captured_every_interval(cluster: Cluster) -> None:
    """Files of a program that announces nothing are captured every interval, and the last capture is resumed from."""
    cluster.submit("a", silent=True)
    cluster.worker(script=lambda _, step: 3 if step == 150 else None, max_jobs=1).run()
    assert cluster.record("a").attempts[-1].commits == 2
    saved = step(cluster.record("a"))
    assert 120 <= saved <= 130
    ref = cluster.record("a").checkpoint
    assert ref is not None
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == saved
    assert cluster.output("a") == "45150"
    first, second = cluster.record("a").attempts
    assert (first.resumed_from, first.resumed_s) == (None, 0.0)
    assert (second.resumed_from, second.resumed_s) == (ref.seq, ref.computed_s)
    assert ref.computed_s == pytest.approx(saved, abs=3)  # the program does a step a second


def test_files_are_captured_when_a_program_stops_by_itself(cluster: Cluster) -> None:
    """If a program exits by itself when asked to stop, its files are captured as it left them."""
    cluster.submit("a", silent=True)
    with running_worker(cluster, cluster.worker()):
        cluster.clock.sleep(100)
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert step(record) > 95
    assert record.attempts[-1].commits == 2


@pytest.mark.parametrize("code", [None, 143], ids=["killed", "ended by its signal"])
def test_files_of_a_killed_program_are_captured_as_they_are(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """The files of a program that is dead are what a power cut would have left. The grace period limits the wait."""

    def stop(self: FakeWorkload) -> None:
        self._exited = Exit(code, "", clean=False) if code else None

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    cluster.submit("a", silent=True)
    workload = {"grace": timedelta(hours=1)}
    with running_worker(cluster, cluster.worker(stop_grace=timedelta(seconds=20), workload=workload)):
        cluster.clock.sleep(100)
        captured = cluster.record("a").checkpoint
        assert captured is not None
        drained = cluster.clock.monotonic()
    assert cluster.clock.monotonic() - drained < 20
    assert cluster.record("a").state is State.RELEASED
    saved = cluster.record("a").checkpoint
    assert saved is not None
    assert saved.seq == captured.seq + 1
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == saved.step
    assert cluster.output("a") == "45150"


def test_files_that_always_change_are_not_captured(cluster: Cluster) -> None:
    """Files that are never quiet are not captured if the program must not be frozen; this is logged each interval."""
    cluster.submit("a", silent=True)
    cluster.worker(workload={"quiet": timedelta(seconds=10), "freeze": False}).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.checkpoint is None
    assert log(cluster, 1).count(b"changes every 4 s: declare it `growing`") == 2  # of 300 seconds: 60 + 60, 60 + 60


def test_files_written_in_place_are_copied_from_then_on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot torn by a write in place is discarded and replaced at once; later snapshots copy that file."""
    monkeypatch.setattr(Checking, "check", lambda *_: cluster.clock.sleep(6))
    cluster.submit("a", silent=True)
    cluster.worker().run()
    lines = [json.loads(line) for line in log(cluster, 1).splitlines()]
    events = [line for line in lines if line["event"] in {"upload_failed", "checkpoint"}]
    assert [line["event"] for line in events] == ["upload_failed", *["checkpoint"] * 4]
    torn, retaken = (datetime.fromisoformat(line["at"]) for line in events[:2])
    assert retaken - torn < timedelta(seconds=15)


def test_files_that_change_during_a_capture_are_captured_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture during which files change is repeated after they have been quiet again."""
    taken = []

    def take(*args: Any, **kwargs: Any) -> Snapshot | None:
        taken.append(cluster.clock.monotonic())
        return capture_files(*args, **kwargs) if len(taken) > 2 else None

    monkeypatch.setattr("lifecycle.attempt.file_captures.capture_files", take)
    cluster.submit("a", silent=True)
    cluster.worker().run()
    assert log(cluster, 1).count(b'"checkpoint"') == 4
    assert taken[2] - taken[0] >= 2


def test_a_quiet_time_of_zero_captures_changing_files(cluster: Cluster) -> None:
    """With a quiet time of zero, files that change all the time are captured as soon as a snapshot is due."""
    cluster.submit("a", "1\n3000\n", silent=True)
    cluster.worker(workload={"quiet": timedelta(0)}, step_s=0.1).run()
    assert log(cluster, 1).count(b'"checkpoint"') == 4


def test_a_waiting_snapshot_is_uploaded_next(cluster: Cluster) -> None:
    """A snapshot that waits for another upload is the backlog, and is then uploaded once and whole."""
    cluster.submit("a")

    def slow(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]):
            cluster.clock.sleep(100)

    worker = cluster.worker(store=FaultInjection(cluster.memory, before=slow))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(168)
    record = cluster.record("a")
    assert record.checkpoint is not None
    assert record.backlog is not None
    assert record.state is State.CHECKPOINTING
    assert thread.join(2000)
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]
    events = [json.loads(line) for line in log(cluster, 1).splitlines()]
    assert "upload_failed" not in {line["event"] for line in events}
    steps = [line["step"] for line in events if line["event"] == "checkpoint"]
    assert steps == pytest.approx([60, 120, 240], abs=1)  # the one of 180 was replaced while it waited


def test_an_announcing_program_is_asked_to_save_every_interval(cluster: Cluster) -> None:
    """A program that saves only when it is asked to is asked every interval."""
    cluster.submit("a", patient=True)
    cluster.worker().run()
    assert log(cluster, 1).count(b'"checkpoint"') == 4


def test_files_of_an_announcing_program_are_not_captured(cluster: Cluster) -> None:
    """Files of a program that has announced checkpoints are not captured: they may be older than those."""
    cluster.submit("a", patient=True)
    cluster.worker(max_running_time=timedelta(seconds=70), max_jobs=1).run()
    first = step(cluster.record("a"))
    with running_worker(cluster, cluster.worker(step_s=25.0)):  # so that it is asked long before it saves
        cluster.clock.sleep(280)
        announced = cluster.record("a").checkpoint
        cluster.clock.sleep(15)
    assert step(cluster.record("a")) > first
    assert cluster.record("a").checkpoint == announced
    cluster.worker().run()
    record = cluster.record("a")
    assert announced is not None
    assert [attempt.resumed_step for attempt in record.attempts] == [None, first, announced.step]
    assert cluster.output("a") == "45150"


def test_a_failed_upload_leaves_the_job_running(cluster: Cluster) -> None:
    """A failed upload is logged, its snapshot is removed from disk, and the next one is taken on schedule."""
    cluster.submit("a")
    down_until = cluster.clock.monotonic() + 80

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() < down_until:
            raise RetryableError("503, on purpose")

    with running_worker(cluster, cluster.worker(store=FaultInjection(cluster.memory, before=refuse))):
        cluster.clock.sleep(110)
        assert cluster.record("a").state is State.RUNNING
        assert not list(cluster.root.rglob("table.bin"))
        cluster.clock.sleep(40)
        assert cluster.record("a").checkpoint is not None
    assert b"503, on purpose" in log(cluster, 1)


def test_a_read_error_costs_one_checkpoint(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read error costs one checkpoint, because it may concern only that file; the attempt goes on."""
    chunk_file, failures = Chunker.chunk_file, [OSError(errno.EIO, "Input/output error")]

    def fail(self: Chunker, *args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return chunk_file(self, *args, **kwargs)

    monkeypatch.setattr(Chunker, "chunk_file", fail)
    cluster.submit("a")
    cluster.worker().run()
    assert [attempt.outcome for attempt in cluster.record("a").attempts] == ["completed"]
    assert log(cluster, 1).count(b'"checkpoint"') == 3


def test_a_snapshot_without_changes_is_not_kept(cluster: Cluster) -> None:
    """A snapshot that equals the last checkpoint is not a backlog, and the job stays running."""
    cluster.submit("a", silent=True)
    with running_worker(cluster, cluster.worker(step_s=25.0)):  # saves every 100 seconds
        cluster.clock.sleep(150)
        first = cluster.record("a").checkpoint
        assert (cluster.record("a").state, cluster.record("a").backlog) == (State.RUNNING, None)
        cluster.clock.sleep(70)
        record = cluster.record("a")
        assert first is not None
        assert (record.state, record.backlog, record.checkpoint) == (State.RUNNING, None, first)
        assert log(cluster, 1).count(b'"checkpoint"') == 1


def test_snapshots_without_changes_are_not_progress(cluster: Cluster) -> None:
    """An attempt that leaves only snapshots without changes counts as failed."""
    cluster.submit("a", silent=True, patient=True)
    a_while = timedelta(seconds=150)
    cluster.worker(step_s=25.0, max_running_time=a_while, max_jobs=1).run()
    before = cluster.record("a")
    assert (before.state, before.failures) == (State.PAUSED_FOR_TIMEOUT, 0)
    cluster.worker(step_s=1000.0, max_running_time=a_while, max_jobs=1).run()
    record = cluster.record("a")
    assert (record.state, record.failures) == (State.PAUSED_FOR_TIMEOUT, 1)
    assert record.checkpoint == before.checkpoint


def test_a_commit_with_unknown_outcome_is_retried_with_pauses(cluster: Cluster) -> None:
    """A commit whose outcome is unknown is repeated every few seconds, not at once, while the store has trouble."""
    cluster.submit("a")
    since = cluster.clock.monotonic()

    def refuse(name: str, *args: object, **_: object) -> None:
        if "/records/" in str(args[:1]) and 55 < cluster.clock.monotonic() - since < 80:
            raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert 5 <= log(cluster, 1).count(b'"commit_unknown"') <= 10


@pytest.mark.parametrize("resumed_reports", [False, True], ids=["only the first", "only the second"])
def test_without_steps_in_one_attempt_every_checkpoint_is_progress(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, resumed_reports: bool
) -> None:
    """If only one of two attempts reports steps, every checkpoint counts as progress."""
    poll = FakeWorkload.poll

    def without_step(self: FakeWorkload) -> Report:
        report = poll(self)
        if report.announced and self._launch.resumed != resumed_reports:
            return evolve(report, announced=evolve(report.announced, step=None))
        return report

    monkeypatch.setattr(FakeWorkload, "poll", without_step)
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100), max_jobs=2).run()
    assert [attempt.commits for attempt in cluster.record("a").attempts] == [2, 2]
