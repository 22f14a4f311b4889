"""When snapshots are taken, and of what: of programs that announce theirs, and of programs that announce nothing."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Checking, Cluster
from support.fault_injection import FaultInjection, unless_dead

from adapters.memory.runner import FakeWorkload
from lifecycle.attempt.worker import Worker
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


@contextmanager
def working(cluster: Cluster, worker: Worker) -> Iterator[None]:
    """*worker* works meanwhile, and is drained afterwards."""
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    yield
    worker.drain()
    assert thread.join(1000)


def step(record: JobRecord) -> int:
    """Of its checkpoint."""
    assert record.checkpoint is not None
    assert record.checkpoint.step is not None
    return record.checkpoint.step


def log(cluster: Cluster, epoch: int) -> bytes:
    """An attempt's."""
    stored = cluster.memory.get(LAYOUT.job("a").log(epoch))
    assert stored is not None
    return stored.body


def test_a_program_that_announces_nothing_is_pictured_every_interval(cluster: Cluster) -> None:
    """The next attempt goes on from the last picture of its files."""
    cluster.submit("a", silent=True)
    cluster.worker(script=lambda _, step: 3 if step == 150 else None, max_jobs=1).run()
    assert cluster.record("a").attempts[-1].commits == 2
    saved = step(cluster.record("a"))
    assert 120 <= saved <= 130
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == saved
    assert cluster.output("a") == "45150"


def test_a_program_that_announces_nothing_and_leaves_by_itself_leaves_its_files_whole(cluster: Cluster) -> None:
    """So they are saved as it left them, however long ago the last picture was."""
    cluster.submit("a", silent=True)
    with working(cluster, cluster.worker()):
        cluster.clock.sleep(100)
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert step(record) > 95
    assert record.attempts[-1].commits == 2


@pytest.mark.parametrize("code", [None, 143], ids=["killed", "ended by its signal"])
def test_a_program_that_does_not_leave_by_itself_is_not_trusted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """It may have been in the middle of a file: the last picture counts. Nor is it waited for beyond the grace."""

    def stop(self: FakeWorkload) -> None:
        self._exited = Exit(code, "") if code else None

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    cluster.submit("a", silent=True)
    patient = {"grace": timedelta(hours=1)}
    with working(cluster, cluster.worker(stop_grace=timedelta(seconds=20), workload=patient)):
        cluster.clock.sleep(100)
        pictured = cluster.record("a").checkpoint
        assert pictured is not None
        drained = cluster.clock.monotonic()
    assert cluster.clock.monotonic() - drained < 20
    assert cluster.record("a").state is State.RELEASED
    assert cluster.record("a").checkpoint == pictured


def test_files_that_are_never_still_are_not_pictured(cluster: Cluster) -> None:
    """The log says so once an interval, and the job goes on."""
    cluster.submit("a", silent=True)
    cluster.worker(workload={"quiet": timedelta(seconds=10)}).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.checkpoint is None
    assert log(cluster, 1).count(b"its files were never still for 0:00:10") == 2  # of 300 seconds: 60 + 60, 60 + 60


def test_files_that_are_written_to_in_place_are_copied_from_then_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first picture of them is torn before it is read, and thrown away; another is taken at once."""
    monkeypatch.setattr(Checking, "check", lambda *_: cluster.clock.sleep(6))
    cluster.submit("a", silent=True)
    cluster.worker().run()
    lines = [json.loads(line) for line in log(cluster, 1).splitlines()]
    told = [line for line in lines if line["event"] in {"upload_failed", "checkpoint"}]
    assert [line["event"] for line in told] == ["upload_failed", *["checkpoint"] * 4]
    torn, retaken = (datetime.fromisoformat(line["at"]) for line in told[:2])
    assert retaken - torn < timedelta(seconds=15)


def test_files_that_change_while_they_are_pictured_are_pictured_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once they have been still again."""
    taken = []

    def take(*args: Any, **kwargs: Any) -> Snapshot | None:
        taken.append(cluster.clock.monotonic())
        return capture_files(*args, **kwargs) if len(taken) > 2 else None

    monkeypatch.setattr("lifecycle.attempt.checkpoint_scheduler.capture_files", take)
    cluster.submit("a", silent=True)
    cluster.worker().run()
    assert log(cluster, 1).count(b'"checkpoint"') == 4
    assert taken[2] - taken[0] >= 2


def test_no_quiet_is_asked_of_files_whose_workload_wants_none(cluster: Cluster) -> None:
    """Then a picture is taken as soon as it is due, of files that change all the time."""
    cluster.submit("a", "1\n3000\n", silent=True)
    cluster.worker(workload={"quiet": timedelta(0)}, step_s=0.1).run()
    assert log(cluster, 1).count(b'"checkpoint"') == 4


def test_a_snapshot_that_waits_while_another_is_committed_is_uploaded_next(cluster: Cluster) -> None:
    """Once, and whole, where uploads take longer than a saving interval; meanwhile it is the backlog."""
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
    assert steps == pytest.approx([60, 120, 240], abs=1)  # that of 180 was replaced while it waited


def test_a_program_that_announces_is_asked_to_save_every_interval(cluster: Cluster) -> None:
    """For those that save when they are asked, and not before."""
    cluster.submit("a", patient=True)
    cluster.worker().run()
    assert log(cluster, 1).count(b'"checkpoint"') == 4


def test_a_program_that_announces_is_not_pictured(cluster: Cluster) -> None:
    """What lies in its directory is what it resumed from, and older than what it has announced since."""
    cluster.submit("a", patient=True)
    cluster.worker(max_running_time=timedelta(seconds=70), max_jobs=1).run()
    first = step(cluster.record("a"))
    with working(cluster, cluster.worker(step_s=25.0)):  # so that it is asked long before it answers
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


def test_an_upload_that_fails_leaves_the_job_running(cluster: Cluster) -> None:
    """Its snapshot leaves the disk at once, the log says why, and the next one is taken in its time."""
    cluster.submit("a")
    down_until = cluster.clock.monotonic() + 80

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() < down_until:
            raise RetryableError("503, on purpose")

    with working(cluster, cluster.worker(store=FaultInjection(cluster.memory, before=refuse))):
        cluster.clock.sleep(110)
        assert cluster.record("a").state is State.RUNNING
        assert not list(cluster.root.rglob("table.bin"))
        cluster.clock.sleep(40)
        assert cluster.record("a").checkpoint is not None
    assert b"503, on purpose" in log(cluster, 1)


def test_an_upload_that_the_disk_fails_once_is_only_one_checkpoint_less(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read error may be the file's, and gone with it: the attempt goes on."""
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


def test_a_picture_of_what_is_saved_already_is_not_kept(cluster: Cluster) -> None:
    """It is no backlog, and the job runs on."""
    cluster.submit("a", silent=True)
    with working(cluster, cluster.worker(step_s=25.0)):  # saves every 100 seconds
        cluster.clock.sleep(150)
        first = cluster.record("a").checkpoint
        assert (cluster.record("a").state, cluster.record("a").backlog) == (State.RUNNING, None)
        cluster.clock.sleep(70)
        record = cluster.record("a")
        assert first is not None
        assert (record.state, record.backlog, record.checkpoint) == (State.RUNNING, None, first)
        assert log(cluster, 1).count(b'"checkpoint"') == 1


def test_pictures_of_what_is_saved_already_are_no_progress(cluster: Cluster) -> None:
    """An attempt that leaves nothing else of all its time has failed."""
    cluster.submit("a", silent=True, patient=True)
    a_while = timedelta(seconds=150)
    cluster.worker(step_s=25.0, max_running_time=a_while, max_jobs=1).run()
    before = cluster.record("a")
    assert (before.state, before.failures) == (State.PAUSED_FOR_TIMEOUT, 0)
    cluster.worker(step_s=1000.0, max_running_time=a_while, max_jobs=1).run()
    record = cluster.record("a")
    assert (record.state, record.failures) == (State.PAUSED_FOR_TIMEOUT, 1)
    assert record.checkpoint == before.checkpoint


def test_a_commit_whose_outcome_is_unknown_is_tried_again_after_a_while(cluster: Cluster) -> None:
    """Not ten times a second, on a store that is in trouble as it is."""
    cluster.submit("a")
    since = cluster.clock.monotonic()

    def refuse(name: str, *args: object, **_: object) -> None:
        if "/records/" in str(args[:1]) and 55 < cluster.clock.monotonic() - since < 80:
            raise RetryableError("503, on purpose")

    cluster.worker(store=FaultInjection(cluster.memory, before=refuse)).run()
    assert cluster.record("a").state is State.COMPLETED
    assert 5 <= log(cluster, 1).count(b'"commit_unknown"') <= 10


@pytest.mark.parametrize("resumed_says", [False, True], ids=["only the first", "only the second"])
def test_attempts_of_which_one_says_no_steps(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, resumed_says: bool
) -> None:
    """Every checkpoint counts as progress then."""
    poll = FakeWorkload.poll

    def reticent(self: FakeWorkload) -> Report:
        report = poll(self)
        if report.announced and self._launch.resumed != resumed_says:
            return evolve(report, announced=evolve(report.announced, step=None))
        return report

    monkeypatch.setattr(FakeWorkload, "poll", reticent)
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=100), max_jobs=2).run()
    assert [attempt.commits for attempt in cluster.record("a").attempts] == [2, 2]
