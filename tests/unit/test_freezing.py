"""Programs whose files are never quiet: they are frozen for a moment, and captured as a power cut would leave them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import unless_dead

from adapters.memory.runner import FakeWorkload
from lifecycle.attempt import file_captures
from lifecycle.checkpoint.capture import capture_files, capture_frozen
from lifecycle.checkpoint.copies import MadeCopy
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.survey import FileState
from lifecycle.ports.runner import Exit, FilesInUse
from lifecycle.states import State

TABLE = "checkpoint/table.bin"
SUM = "45150"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def events(cluster: Cluster, kind: str, epoch: int = 1) -> list[dict[str, Any]]:
    """Return the events of one kind in the event log of an attempt."""
    stored = cluster.memory.get(LAYOUT.job("a").log(epoch))
    assert stored is not None
    return [event for event in map(json.loads, stored.body.splitlines()) if event["event"] == kind]


def crash(cluster: Cluster, at: int, **changes: Any) -> None:
    """Run one attempt that fails at step *at*."""
    cluster.worker(script=lambda _, step: 3 if step == at else None, max_jobs=1, workload=changes).run()


def in_use(monkeypatch: pytest.MonkeyPatch, *used: FilesInUse) -> list[bool]:
    """Let each freeze find another of *used*, the last one again and again; return if each call was in a freeze."""
    calls: list[bool] = []

    def files_in_use(self: FakeWorkload) -> FilesInUse:
        frozen = self._frozen_at is not None
        calls.append(frozen)
        return used[min(calls.count(True), len(used)) - 1] if frozen else FilesInUse()

    monkeypatch.setattr(FakeWorkload, "files_in_use", files_in_use)
    return calls


def writing(cluster: Cluster, name: str = "state.txt") -> FilesInUse:
    """Return that a file of the state is open for writing."""
    return FilesInUse(writing=frozenset({str(cluster.root / "node1" / "a" / "checkpoint" / name)}))


# ---- when a program is frozen ----


@pytest.mark.parametrize("kind", ["chatty", "mapped"])
def test_a_program_that_is_never_quiet_is_frozen(cluster: Cluster, kind: str) -> None:
    """After a saving interval without a quiet moment the program is frozen; the next attempt resumes from that."""
    cluster.submit("a", silent=True, chatty=kind == "chatty", mapped=kind == "mapped")
    crash(cluster, 200)
    saved = cluster.manifest("a")
    assert (saved.quality, saved.announces) == (Quality.FROZEN, False)
    assert len(events(cluster, "frozen")) == len(events(cluster, "checkpoint")) == 2
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == saved.step
    assert cluster.output("a") == SUM


def test_a_program_that_was_never_quiet_is_not_waited_for_again(cluster: Cluster) -> None:
    """The first freeze comes two intervals after the start, and the next one an interval later, also after a resume."""
    cluster.submit("a", silent=True, chatty=True)
    crash(cluster, 200)
    first, second = ((event["step"] or 0) for event in events(cluster, "checkpoint"))
    assert 115 <= first <= 130
    assert 175 <= second <= 195
    crash(cluster, 290)
    assert 60 <= events(cluster, "checkpoint", 2)[0]["step"] - second <= 75


def test_a_program_that_must_not_be_frozen_is_not(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `freeze = false` nothing is saved, and each interval the log says which file changes, and what to do."""
    monkeypatch.setattr(FakeWorkload, "freeze", None)
    cluster.submit("a", silent=True, chatty=True)
    cluster.worker(workload={"freeze": False}).run()
    assert cluster.record("a").checkpoint is None
    reasons = [event["why"] for event in events(cluster, "no_snapshot")]
    assert len(reasons) == 2
    assert reasons[0].startswith("checkpoint/chat.log changes every second: declare it `growing`")
    assert "`freeze`" in reasons[0]


def test_a_mapped_file_is_never_quiet(cluster: Cluster) -> None:
    """A file that is mapped for writing may change without a trace: its times say nothing."""
    cluster.submit("a", silent=True, mapped=True)
    cluster.worker(workload={"freeze": False}).run()
    assert cluster.record("a").checkpoint is None
    assert events(cluster, "no_snapshot")[0]["why"].startswith(f"{TABLE} is mapped into memory")


def test_a_job_that_has_announced_is_not_frozen(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a job has announced a checkpoint, its files are captured only after it has saved and exited."""
    cluster.submit("a")
    crash(cluster, 100)
    announced = cluster.manifest("a")
    monkeypatch.setattr(FakeWorkload, "_announce", lambda self: self._overwrite(self._launch.dirs.checkpoint))
    crash(cluster, 250)
    assert cluster.manifest("a") == announced
    worker = cluster.worker(stop_grace=timedelta(seconds=20))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    worker.drain()
    assert thread.join(1000)
    assert (cluster.manifest("a").quality, cluster.manifest("a").announces) == (Quality.EXITED, True)
    assert cluster.manifest("a").seq > announced.seq


@pytest.mark.parametrize("has_announced", [True, False])
def test_a_frozen_state_never_displaces_an_announced_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, has_announced: bool
) -> None:
    """What a killed program leaves is not captured if the job has announced a checkpoint before."""

    def stop(self: FakeWorkload) -> None:
        self._exited = Exit(143, "", clean=False)

    cluster.submit("a", silent=not has_announced)
    crash(cluster, 100)
    before = cluster.manifest("a")
    monkeypatch.setattr(FakeWorkload, "stop", stop)
    monkeypatch.setattr(FakeWorkload, "_announce", lambda self: self._overwrite(self._launch.dirs.checkpoint))
    worker = cluster.worker(stop_grace=timedelta(seconds=20))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(100)
    worker.drain()
    assert thread.join(1000)
    assert cluster.record("a").state is State.RELEASED
    assert (cluster.manifest("a") == before) is has_announced


@pytest.mark.parametrize(("left", "is_taken"), [(Quality.QUIET, False), (Quality.FROZEN, True)])
def test_a_half_written_state_displaces_only_its_like(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, left: Quality, *, is_taken: bool
) -> None:
    """If a file was open for writing at each moment of its death, that replaces no better checkpoint."""

    def stop(self: FakeWorkload) -> None:
        self._exited = Exit(143, "", clean=False, writing=True)

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    cluster.submit("a", silent=True, chatty=left is Quality.FROZEN)
    crash(cluster, 150)
    before = cluster.manifest("a")
    assert before.quality is left
    worker = cluster.worker(stop_grace=timedelta(seconds=20))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(40)
    worker.drain()
    assert thread.join(1000)
    assert (cluster.manifest("a").seq > before.seq) is is_taken


# ---- files that are half written ----


@pytest.mark.parametrize("times", [1, 4, 9])
def test_a_half_written_file_is_captured_at_another_moment(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """While a changed file is open for writing, the program goes on and is frozen again at a random moment."""
    in_use(monkeypatch, *[writing(cluster)] * times, FilesInUse())
    cluster.submit("a", silent=True, chatty=True)
    crash(cluster, 160)
    frozen = events(cluster, "frozen")
    assert [event["tries"] for event in frozen] == [times + 1]


def test_a_file_that_is_always_open_is_captured_in_the_end(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten tries the capture is accepted: a database keeps its files open, and survives a power cut."""
    in_use(monkeypatch, writing(cluster))
    cluster.submit("a", silent=True, chatty=True)
    crash(cluster, 160)
    assert [event["tries"] for event in events(cluster, "frozen")] == [file_captures.MOST_TRIES]
    assert cluster.manifest("a").in_place == ("checkpoint/state.txt",)


def test_a_file_that_has_not_changed_may_be_open(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is as it was at the last capture is not being written, whatever has it open."""
    (written := cluster.root / "node1" / "a" / "checkpoint" / "old").parent.mkdir(parents=True)
    in_use(monkeypatch, *[FilesInUse(writing=frozenset({str(written)}))])
    real = FakeWorkload._load

    def load(self: FakeWorkload) -> None:
        real(self)
        (self._launch.dirs.checkpoint / "old").write_text("as before")

    monkeypatch.setattr(FakeWorkload, "_load", load)
    cluster.submit("a", silent=True, chatty=True)
    crash(cluster, 200)
    first, second = events(cluster, "frozen")
    assert (first["tries"], second["tries"]) == (file_captures.MOST_TRIES, 1)


# ---- freezes that fail ----


def test_a_program_that_cannot_be_stopped_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten tries, the log says why nothing is saved, and the program runs on."""
    tries: list[float] = []

    def freeze(_: FakeWorkload) -> str:
        tries.append(cluster.clock.monotonic())
        return "process 7 waits in the kernel (state D)"

    monkeypatch.setattr(FakeWorkload, "freeze", freeze)
    cluster.submit("a", silent=True, chatty=True)
    cluster.worker().run()
    assert cluster.output("a") == SUM
    first, *_ = events(cluster, "no_snapshot")
    assert first["why"] == "the program could not be stopped: process 7 waits in the kernel (state D)"
    assert len(set(tries[:10])) == file_captures.MOST_TRIES


def test_a_capture_whose_freeze_ended_early_is_discarded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was captured while a process may have run is not uploaded, and leaves nothing on the disk."""
    monkeypatch.setattr(FakeWorkload, "thaw", lambda self: self._end_freeze(self._clock.monotonic()))
    cluster.submit("a", silent=True, chatty=True)
    cluster.worker(workload={"freeze_limit": timedelta(seconds=3)}).run()
    assert cluster.record("a").checkpoint is None
    assert "raise `freeze_limit` (3 s)" in events(cluster, "no_snapshot")[0]["why"]


def test_a_slow_capture_is_discarded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the capture takes longer than the limit, the program runs on before it is complete."""

    def slow(*args: Any, **kwargs: Any) -> object:
        cluster.clock.sleep(6)
        return capture_frozen(*args, **kwargs)

    monkeypatch.setattr("lifecycle.attempt.file_captures.capture_frozen", slow)
    cluster.submit("a", silent=True, chatty=True)
    cluster.worker().run()
    assert cluster.record("a").checkpoint is None
    assert cluster.output("a") == SUM


# ---- files written in place ----


def test_files_written_in_place_are_remembered(cluster: Cluster) -> None:
    """The manifest names them, so that the next attempt copies them at once; and not when they are gone."""
    cluster.submit("a", silent=True, mapped=True)
    crash(cluster, 200)
    assert cluster.manifest("a").in_place == (TABLE,)
    crash(cluster, 280)
    assert cluster.manifest("a").in_place == (TABLE,)
    assert events(cluster, "upload_failed", 2) == []


def test_declared_files_are_copied(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that matches `in_place` is copied the first time, so that no snapshot is torn."""

    def capture(*args: Any, **kwargs: Any) -> object:
        taken = capture_files(*args, **kwargs)
        assert taken is not None
        live = cluster.root / "node1" / "a" / TABLE
        copied = next(file for file in taken.files if file.path == TABLE)
        linked = next(file for file in taken.files if file.path == "checkpoint/state.txt")
        assert copied.source.stat().st_ino != live.stat().st_ino
        assert linked.source.stat().st_ino == live.with_name("state.txt").stat().st_ino
        return taken

    monkeypatch.setattr("lifecycle.attempt.file_captures.capture_files", capture)
    cluster.submit("a", silent=True)
    crash(cluster, 100, in_place=("checkpoint/table.*",))
    assert cluster.record("a").checkpoint is not None


def test_what_cannot_be_copied_in_time_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the rest cannot be copied within the limit, the program is not stopped at all."""
    monkeypatch.setattr(file_captures._FrozenCapture, "rate", 5.12)
    monkeypatch.setattr(FakeWorkload, "freeze", None)
    cluster.submit("a", silent=True, mapped=True)
    cluster.worker().run()
    assert cluster.record("a").checkpoint is None
    why = events(cluster, "no_snapshot")[0]["why"]
    assert why.startswith("256 bytes written in place needs 50 s; the limit is 5 s: raise `freeze_limit`")


def test_what_has_no_room_on_the_disk_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that would fill the disk is not begun, unless copies share their blocks."""
    monkeypatch.setattr(file_captures, "free_bytes", lambda _: 255)
    monkeypatch.setattr(file_captures, "shares_blocks", lambda _: False)
    cluster.submit("a", silent=True, mapped=True)
    crash(cluster, 160)
    assert cluster.record("a").checkpoint is None
    assert "255 bytes are free" in events(cluster, "no_snapshot")[0]["why"]
    monkeypatch.setattr(file_captures, "shares_blocks", lambda _: True)
    crash(cluster, 161)
    assert cluster.record("a").checkpoint is not None


def test_a_copy_made_ahead_counts_while_the_file_is_the_same(tmp_path: Path) -> None:
    """It is of no use once the file may have changed: mapped, written to just before the copy, or written to since."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    found = path.lstat()
    made = MadeCopy(FileState.of(found), found.st_ctime_ns, found.st_ctime_ns + 1_000_000_000, 1, was_mapped=False)
    assert made.is_current(path)
    assert not evolve(made, was_mapped=True).is_current(path)
    assert not evolve(made, began_ns=found.st_ctime_ns).is_current(path)
    path.write_bytes(b"xy")
    assert not made.is_current(path)
