"""Useless checkpoints: suspicion, the fallback, and the high-water mark that keeps a job from living for ever."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import FaultyNode, unless_dead

from adapters.memory.runner import ExitScript, FakeWorkload
from lifecycle.evidence import HighWaterMark
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.ports.runner import Launch, Report
from lifecycle.record.operator_changes import reopened
from lifecycle.record.usability import Commit, fallen_back, with_commit
from lifecycle.states import OWNED, State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def useless(*steps: int) -> ExitScript:
    """Return a script by which the program fails as soon as it has resumed from one of *steps*."""
    began: dict[tuple[str, int], int] = {}

    def script(launch: Launch, step: int) -> int | None:
        first = began.setdefault((launch.job, launch.epoch), step)
        return 1 if launch.resumed and first - 1 in steps else None

    return script


def pause_at(cluster: Cluster, step: int) -> None:
    """Run the job "a" until it pauses at *step*, which is its last checkpoint."""
    cluster.worker(max_running_time=timedelta(seconds=step), max_jobs=1).run()
    assert steps(cluster.record("a")).pop() == step


def steps(record: JobRecord) -> list[int | None]:
    """Return the steps of the fallback and the checkpoint."""
    return [ref.step for ref in (record.fallback, record.checkpoint) if ref]


def resumed_steps(record: JobRecord) -> list[int | None]:
    return [attempt.resumed_step for attempt in record.attempts]


def run_and_die(cluster: Cluster, **limits: Any) -> None:
    """Run a worker that takes the job "a" and dies; then wait until its lease and its delivery are over."""
    node = FaultyNode(cluster.clock)
    ports = {"store": node.around(cluster.memory), "queue": node.around(cluster.queue), "clock": node.clock()}
    worker = cluster.worker(**{**ports, **limits})
    cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(20)
    assert cluster.record("a").state in OWNED
    node.dead = True
    cluster.clock.sleep(300)


def test_a_useless_checkpoint_is_given_up_after_two_tries(cluster: Cluster) -> None:
    """An intact checkpoint from which the program fails twice is a suspect, and the job goes on from the one before."""
    cluster.submit("a")
    pause_at(cluster, 130)
    failing: dict[str, Any] = {"script": useless(130), "max_jobs": 1}
    cluster.worker(**failing).run()
    assert steps(cluster.record("a")) == [120, 130]
    assert cluster.record("a").mark.failed_resumes == 1
    cluster.worker(**failing).run()
    record = cluster.record("a")
    assert steps(record) == [120]
    assert [ref.step for ref in record.suspects] == [130]
    assert (record.mark.step, record.mark.fell_back, record.failures) == (130, True, 2)
    assert "is given up as useless, and the job goes on from checkpoint" in (record.error or "")
    cluster.worker(**failing).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert resumed_steps(record) == [None, 130, 130, 120]
    assert cluster.output("a") == "45150"
    assert record.suspects == ()


def test_one_failure_does_not_make_a_checkpoint_suspect(cluster: Cluster) -> None:
    """After one failed resume, the same checkpoint is tried again; if that works, nothing is held against it."""
    cluster.submit("a")
    pause_at(cluster, 130)
    failures = {131: 1}
    cluster.worker(script=lambda _, step: failures.pop(step, None)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert resumed_steps(record) == [None, 130, 130]


def test_the_input_is_the_fallback_of_the_first_checkpoint(cluster: Cluster) -> None:
    """If the only checkpoint is useless, the job begins again from its input."""
    cluster.submit("a")
    pause_at(cluster, 50)
    cluster.worker(script=useless(50)).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert resumed_steps(record) == [None, 50, 50, None]
    assert cluster.output("a") == "45150"


def test_a_job_that_always_fails_at_one_step_ends(cluster: Cluster) -> None:
    """Commits below the high-water mark reset no counter: the fallback is tried once, and then the job fails."""
    cluster.submit("a")
    cluster.worker(script=lambda _, step: 3 if step == 150 else None).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert resumed_steps(record) == [None, 120, 120, 60]
    assert record.failures == 3
    assert record.mark.step == 120


def test_each_mark_grants_a_fallback(cluster: Cluster) -> None:
    """A job that gets further after a fallback has another one from there."""
    cluster.submit("a")
    pause_at(cluster, 70)
    cluster.worker(script=useless(70), max_running_time=timedelta(seconds=75)).run()  # pauses again, at 135
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.mark.fell_back is False
    first = resumed_steps(record)
    cluster.submit("b")
    cluster.worker(script=useless(75, 135), max_running_time=timedelta(seconds=75)).run()
    record = cluster.record("b")
    assert record.state is State.COMPLETED
    assert first[:4] == [None, 70, 70, 60]
    assert resumed_steps(record)[:7] == [None, 75, 75, 60, 135, 135, 120]


def test_a_fallback_is_tried_before_a_job_fails(cluster: Cluster) -> None:
    """A job does not fail for good before its fallback was tried, whatever MAX_FAILURES is."""
    cluster.submit("a")
    pause_at(cluster, 130)
    cluster.worker(script=useless(130), max_failures=1).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert resumed_steps(record) == [None, 130, 130, 120]


def test_attempts_that_did_not_fail_by_themselves_cast_no_suspicion(cluster: Cluster) -> None:
    """Drained, paused and vanished attempts say nothing against the checkpoint that they resumed from."""
    cluster.submit("a")
    pause_at(cluster, 130)
    for _ in range(3):
        worker = cluster.worker(step_s=1000.0)
        thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
        cluster.clock.sleep(30)
        worker.drain()
        assert thread.join(100)
    assert cluster.record("a").mark.failed_resumes == 0
    assert steps(cluster.record("a"))[-1] == 130

    for _ in range(3):
        run_and_die(cluster)
    cluster.worker(max_running_time=timedelta(seconds=1), workload={"grace": timedelta(0)}, max_jobs=1).run()
    record = cluster.record("a")
    assert record.interruptions["node_lost"] == 3
    assert (record.mark.failed_resumes, record.mark.fell_back, record.suspects) == (0, False, ())


def test_a_pause_without_a_checkpoint_casts_no_suspicion(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workload that saves too rarely is to blame, and not the checkpoint; the job fails after the fallback."""
    cluster.submit("a")
    pause_at(cluster, 130)
    monkeypatch.setattr(FakeWorkload, "_announce", lambda _: None)
    pausing: dict[str, Any] = {"max_running_time": timedelta(seconds=50), "max_jobs": 1}
    for failures in (1, 2):
        cluster.worker(**pausing).run()
        record = cluster.record("a")
        assert (record.failures, record.mark.failed_resumes, record.mark.fell_back) == (failures, 0, False)
    for _ in range(2):
        cluster.worker(**pausing).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert resumed_steps(record) == [None, 130, 130, 130, 120]


def test_a_fallback_is_tried_before_lost_attempts_fail_a_job(cluster: Cluster) -> None:
    """A checkpoint that brings its nodes down is given up before the job fails for lost attempts."""
    cluster.submit("a")
    pause_at(cluster, 130)

    for _ in range(2):
        run_and_die(cluster, max_lost_attempts=2)
    cluster.worker(max_lost_attempts=2).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.deaths == 0
    assert resumed_steps(record) == [None, 130, 130, 120]


def test_without_steps_the_computing_time_is_the_mark(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without steps, the mark is the computing time that a checkpoint preserves, and a job that always fails ends."""
    poll = FakeWorkload.poll

    def without_steps(self: FakeWorkload) -> Report:
        report = poll(self)
        announced = evolve(report.announced, step=None) if report.announced else None
        return evolve(report, done=None, total=None, announced=announced)

    monkeypatch.setattr(FakeWorkload, "poll", without_steps)
    cluster.submit("a")
    cluster.worker(script=lambda _, step: 3 if step == 150 else None).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert [attempt.resumed_from for attempt in record.attempts] == [None, 2, 2, 1]
    assert record.mark.computed_s == pytest.approx(120, abs=3)


def test_a_program_that_begins_anew_displaces_no_checkpoint(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reports steps below those it resumed from has failed to resume: what it saves is not committed."""
    cluster.submit("a")
    pause_at(cluster, 130)
    resume = FakeWorkload._resume
    monkeypatch.setattr(FakeWorkload, "_resume", lambda _: None)
    for failures in (1, 2):
        cluster.worker(max_jobs=1, state_saving_interval=timedelta(seconds=20)).run()
        record = cluster.record("a")
        assert record.failures == failures
        assert record.attempts[-1].useful_s < 30
        assert "it did not load its checkpoint" in (record.error or "")
    assert steps(record) == [120]
    assert [ref.step for ref in record.suspects] == [130]
    monkeypatch.setattr(FakeWorkload, "_resume", resume)
    cluster.worker().run()
    assert cluster.output("a") == "45150"


def test_a_record_of_an_older_version_gets_its_mark_when_it_is_taken(cluster: Cluster) -> None:
    """The mark of a record that has none is that of its checkpoint, so commits below it reset no failures."""
    cluster.submit("a")
    pause_at(cluster, 130)
    stored = cluster.stored("a")
    assert stored.record.checkpoint is not None
    older = evolve(
        stored.record, mark=HighWaterMark(), checkpoint=evolve(stored.record.checkpoint, computed_s=None), failures=1
    )
    cluster.clock.sleep(2)
    cluster.record_store.write(LAYOUT.job("a").record, older, stored.version)
    cluster.worker(script=lambda _, step: 3 if step == 131 else None, max_jobs=1).run()
    record = cluster.record("a")
    assert record.failures == 2
    assert record.mark == HighWaterMark(step=130, computed_s=older.ran_s, seq=3, failed_resumes=1)


def ref(seq: int, step: int) -> CheckpointRef:
    return CheckpointRef(f"m{seq}", "d", seq, step=step, computed_s=float(step))


def test_a_commit_applied_twice_is_the_commit_applied_once() -> None:
    """A commit whose answer was lost is applied again: that changes nothing, below the mark and beyond it."""
    record = JobRecord("a", "w", failures=2, deaths=1)
    for seq, step in ((1, 10), (2, 20), (3, 15)):
        once = with_commit(record, Commit(ref(seq, step), record.checkpoint))
        assert with_commit(once, Commit(ref(seq, step), record.checkpoint)) == once
        record = once
    assert record.mark == HighWaterMark(step=20, computed_s=20.0, seq=3)


def test_numbers_of_checkpoints_are_never_used_again() -> None:
    """After a fallback, or a retry from the start, new checkpoints have higher numbers than all before."""
    record = with_commit(JobRecord("a", "w"), Commit(ref(4, 10)))
    assert fallen_back(record).mark.seq == 4
    failed = evolve(record, state=State.FAILED)
    assert reopened(failed, from_start=True).mark == HighWaterMark(seq=4)
    assert reopened(evolve(failed, mark=HighWaterMark()), from_start=True).mark == HighWaterMark(seq=4)


def test_a_retry_grants_the_fallback_again() -> None:
    """An operator who reopens a job wants all of it to be tried again, its fallback included."""
    record = fallen_back(with_commit(JobRecord("a", "w"), Commit(ref(4, 10), ref(3, 5))))
    again = reopened(evolve(record, state=State.FAILED), from_start=False)
    assert (again.mark.step, again.mark.fell_back, again.checkpoint) == (10, False, ref(3, 5))
