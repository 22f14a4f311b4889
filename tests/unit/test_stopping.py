"""Stops: the state and uploads that are saved, and nodes with a process that cannot be killed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.cluster import LAYOUT, Checking, Cluster, running_worker
from support.fault_injection import FaultInjection

from adapters.memory.runner import SAVED, FakeWorkload
from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.ports.runner import Exit
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def step(record: JobRecord) -> int | None:
    return record.checkpoint.step if record.checkpoint else None


def log(cluster: Cluster, epoch: int = 1) -> bytes:
    stored = cluster.memory.get(LAYOUT.job("a").log(epoch))
    assert stored is not None
    return stored.body


def exits_without_saving(self: FakeWorkload) -> None:
    """Replace `stop` by an exit without a new checkpoint."""
    self._exited = self._exited or Exit(SAVED, "")


def is_killed_and_stuck(self: FakeWorkload, **_: object) -> None:
    """Replace `kill` by a process that hangs in the kernel."""
    self._exited = self._exited or Exit(137, "", clean=False, stuck=True)


def slow(cluster: Cluster, seconds: float, part: str = "/packs/") -> FaultInjection:
    """Return the bucket behind a slow connection."""

    def before(name: str, *args: object, **_: object) -> None:
        if name == "put" and part in str(args[0]):
            cluster.clock.sleep(seconds)

    return FaultInjection(cluster.memory, before=before)


# ---- the state ----


def test_after_an_announcement_only_announced_checkpoints_are_taken(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an announcement, a program that dies of the stop signal gets no final snapshot."""

    def stop(self: FakeWorkload) -> None:
        (self._launch.dirs.checkpoint / "state.txt").write_text("half")
        self._exited = Exit(143, "", clean=False)

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    cluster.submit("a")
    with running_worker(cluster, cluster.worker()):
        cluster.clock.sleep(100)
    assert step(cluster.record("a")) == 60
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_a_check_keeps_a_worse_state_from_replacing_a_better_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the check refuses the final state, the snapshot that was being uploaded is committed and remains."""
    stopped = []

    def stop(self: FakeWorkload) -> None:
        stopped.append(self)
        (self._launch.dirs.checkpoint / "state.txt").write_text("half")
        self._exited = Exit(143, "", clean=False)

    def check(_: object, __: object, snapshot: Path) -> str | None:
        return "half" if "half" in (snapshot / "checkpoint/state.txt").read_text() else None

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    monkeypatch.setattr(Checking, "check", check)
    cluster.submit("a", silent=True)
    with running_worker(cluster, cluster.worker(store=slow(cluster, 10), workload={"check": ("check",)})):
        cluster.clock.sleep(63)
        assert step(cluster.record("a")) is None
    assert stopped
    assert 55 <= (step(cluster.record("a")) or 0) <= 65
    cluster.worker().run()
    assert cluster.output("a") == "45150"


@pytest.mark.parametrize("saved", [True, False])
def test_a_half_written_file_replaces_no_checkpoint(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, saved: bool
) -> None:
    """A half-written state is saved only if there is nothing else to resume from."""

    def stop(self: FakeWorkload) -> None:
        self._exited = Exit(143, "", clean=False, writing=True)

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    cluster.submit("a", silent=True)
    with running_worker(cluster, cluster.worker()):
        cluster.clock.sleep(100 if saved else 50)
    reached = step(cluster.record("a")) or 0
    assert reached in (range(55, 66) if saved else range(40, 51))
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_a_crash_commits_nothing_of_the_directory(cluster: Cluster) -> None:
    """The state of a program that failed without being stopped is not saved, since it may be the cause."""
    cluster.submit("a", silent=True)
    cluster.worker(script=lambda _, step: 3 if step == 50 else None, max_jobs=1).run()
    assert cluster.record("a").checkpoint is None


# ---- uploads on their way ----


def test_race_drain_during_an_upload(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain waits for the upload in flight and commits it before it releases the job."""
    monkeypatch.setattr(FakeWorkload, "stop", exits_without_saving)
    cluster.submit("a")
    with running_worker(cluster, cluster.worker(store=slow(cluster, 15))):
        cluster.clock.sleep(62)
        assert cluster.record("a").checkpoint is None
    record = cluster.record("a")
    assert (record.state, step(record)) == (State.RELEASED, 60)
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == 60
    assert cluster.output("a") == "45150"


def test_race_drain_during_an_upload_that_fails(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a drain a failed upload is retried while there is time."""
    monkeypatch.setattr(FakeWorkload, "stop", exits_without_saving)
    refused: list[object] = []

    def before(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]):
            cluster.clock.sleep(5)
            if len(refused) < 2:
                refused.append(args[0])
                raise RetryableError("no")

    cluster.submit("a")
    with running_worker(cluster, cluster.worker(store=FaultInjection(cluster.memory, before=before))):
        cluster.clock.sleep(62)
    record = cluster.record("a")
    assert len(refused) == 2
    assert (record.state, step(record)) == (State.RELEASED, 60)


def test_an_upload_that_takes_longer_than_the_grace_is_given_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draining worker gives up an upload to release its job in time."""
    monkeypatch.setattr(FakeWorkload, "stop", exits_without_saving)
    cluster.submit("a")
    worker = cluster.worker(store=slow(cluster, 20, part="runs/a/"), stop_grace=timedelta(seconds=10))
    with running_worker(cluster, worker):
        cluster.clock.sleep(90)
        drained = cluster.clock.monotonic()
        assert cluster.record("a").checkpoint is None
    assert cluster.record("a").state is State.RELEASED
    assert cluster.clock.monotonic() - drained < 60


def test_a_pause_waits_while_bytes_move(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause waits for an upload that makes progress; else a job with long uploads would never be saved."""
    monkeypatch.setattr(FakeWorkload, "stop", exits_without_saving)
    cluster.submit("a")
    slow_store = FaultInjection(
        slow(cluster, 50), before=lambda name, *args, **_: _sleep_before_manifest(cluster, name, args)
    )
    seconds = timedelta(seconds=1)
    cluster.worker(store=slow_store, max_jobs=1, max_running_time=61 * seconds, patience=60 * seconds).run()
    record = cluster.record("a")
    assert (record.state, step(record)) == (State.PAUSED_FOR_TIMEOUT, 60)
    assert record.failures == 0


def _sleep_before_manifest(cluster: Cluster, name: str, args: Any) -> None:
    if name == "put" and "/checkpoints/" in args[0]:
        cluster.clock.sleep(50)


def test_a_pause_gives_up_when_no_bytes_move(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause gives up an upload that makes no progress for `patience`."""
    monkeypatch.setattr(FakeWorkload, "stop", exits_without_saving)

    def before(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]):
            cluster.clock.sleep(10)
            raise RetryableError("no")

    cluster.submit("a")
    store, seconds = FaultInjection(cluster.memory, before=before), timedelta(seconds=1)
    cluster.worker(store=store, max_jobs=1, max_running_time=61 * seconds, patience=60 * seconds).run()
    record = cluster.record("a")
    assert (record.state, step(record)) == (State.PAUSED_FOR_TIMEOUT, None)
    assert cluster.clock.monotonic() < 61 + 60 + 60


# ---- the end of the node ----


@pytest.mark.parametrize("max_running_time", [50, 1000], ids=["paused", "silent"])
def test_a_node_with_a_process_that_cannot_be_killed_takes_no_other_job(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, max_running_time: int
) -> None:
    """The last state is committed, the job is released, and the worker exits with 1."""
    monkeypatch.setattr(FakeWorkload, "stop", lambda _: None)
    monkeypatch.setattr(FakeWorkload, "kill", is_killed_and_stuck)
    cluster.submit("a", silent=True)
    cluster.submit("b")
    worker = cluster.worker(
        max_running_time=timedelta(seconds=max_running_time),
        workload={} if max_running_time < 300 else {"silence": timedelta(seconds=3)},
    )
    assert worker.run() == 1
    record = cluster.record("a")
    assert record.state in {State.PAUSED_FOR_TIMEOUT, State.RELEASED}
    if max_running_time < 300:
        assert (step(record) or 0) >= 48
        assert "hangs in the kernel" in (record.error or "")
    assert b"hangs in the kernel" in log(cluster)
    assert not cluster.record("b").attempts


def test_a_completed_job_is_completed_on_such_a_node_too(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job with complete outputs is completed; only the worker exits."""
    poll = FakeWorkload.poll

    def stuck(self: FakeWorkload) -> Any:
        report = poll(self)
        if report.exited:
            self._exited = Exit(0, "", clean=False, stuck=True)
        return poll(self)

    monkeypatch.setattr(FakeWorkload, "poll", stuck)
    cluster.submit("a")
    assert cluster.worker().run() == 1
    record = cluster.record("a")
    assert (record.state, record.error) == (State.COMPLETED, None)
    assert cluster.output("a") == "45150"


def test_outputs_that_change_after_the_end_are_the_job_s_fault(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt counts as a failure of the job, with the reason in the record, and the node stays."""
    monkeypatch.setattr(
        "lifecycle.checkpoint.snapshot.SnapshotFile.torn_reason",
        lambda file: "it was written to while it was saved" if file.path.startswith("output/") else None,
    )
    cluster.submit("a")
    assert cluster.worker(max_jobs=1).run() == 0
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert record.failures == 1
    assert "its outputs changed after it had exited" in (record.error or "")
