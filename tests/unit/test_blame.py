"""Blame: failures are counted by machine, misfits are held against nothing, and Holdfast's own faults end no worker."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support.cluster import LAYOUT, Cluster
from support.fault_injection import unless_dead

from adapters.local.node import LocalNode
from adapters.memory.node import MemoryNode
from adapters.memory.queue import MemoryQueue
from adapters.memory.runner import FakeRunner
from client.views.job_json import job_object
from client.views.job_story import story
from lifecycle.attempt.self_assessment import BACK_OFF, SelfAssessment
from lifecycle.attempt.worker import Worker
from lifecycle.evidence import Misfit, Misfits
from lifecycle.job_record import JobRecord
from lifecycle.ports.queue import Depth
from lifecycle.ports.runner import Launch
from lifecycle.record.claiming import decide
from lifecycle.record.operator_changes import reopened
from lifecycle.states import State

PATIENT: Any = {"fail_patience": timedelta(minutes=15), "idle_exit": timedelta(hours=1)}
ALWAYS: Any = {"script": lambda *_: 3}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def outcomes(record: JobRecord) -> list[str | None]:
    return [attempt.outcome for attempt in record.attempts]


def messages(cluster: Cluster) -> int:
    depth = cluster.queue.depth()
    return depth.available + depth.in_flight + depth.delayed


def started(record: JobRecord) -> list[datetime]:
    return [datetime.fromisoformat(attempt.started) for attempt in record.attempts]


# ---- failures by machine ----


def test_one_machine_alone_fails_a_job_only_after_fail_patience(cluster: Cluster) -> None:
    """If no other machine comes, MAX_FAILURES failures on one are enough, but the last is not before FAIL_PATIENCE."""
    cluster.submit("a")
    cluster.worker(**ALWAYS, **PATIENT).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert outcomes(record) == ["workload_failed"] * 3
    first, second, third = started(record)
    assert second - first < timedelta(minutes=1)
    assert third - first >= timedelta(minutes=15)


def test_a_job_that_failed_on_one_machine_is_left_to_another(cluster: Cluster) -> None:
    """While one machine has failed a job and the next failure would be the last, others find its message."""
    cluster.submit("a")
    failing = cluster.worker(**ALWAYS, **PATIENT)
    thread = cluster.clock.start_thread(unless_dead(failing.run), name="failing")
    cluster.clock.sleep(120)
    assert cluster.record("a").failures == 2
    written = cluster.stored("a").version
    cluster.clock.sleep(120)
    assert cluster.stored("a").version == written
    cluster.worker(max_jobs=1).run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert outcomes(record) == ["workload_failed", "workload_failed", "completed"]
    failing.drain()
    assert thread.join(100)


def test_failures_on_two_machines_fail_a_job(cluster: Cluster) -> None:
    """MAX_FAILURES failures on two machines fail a job at once; the record names both."""
    cluster.submit("a")
    for _ in range(2):
        cluster.worker(**ALWAYS, **PATIENT, max_jobs=2).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert outcomes(record) == ["workload_failed"] * 3
    assert record.failed_on.machines == ("node1", "node2")


def test_workers_on_one_machine_are_one_machine(cluster: Cluster) -> None:
    """Two worker processes on one machine give the evidence of one machine."""
    cluster.submit("a")
    for number in range(4):
        node = LocalNode(f"host-{number}-x", machine="host")
        cluster.worker(**ALWAYS, **PATIENT, max_jobs=1, node=node).run()
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert record.failures == 4
    assert record.failed_on.machines == ("host",)


def test_another_machine_that_tries_the_job_is_waited_for_again(cluster: Cluster) -> None:
    """The wait begins again when another machine tries the job and does not fail it."""
    cluster.submit("a", patient=True)  # it saves nothing in a short attempt
    cluster.worker(**ALWAYS, **PATIENT, max_jobs=2).run()
    cluster.clock.sleep(600)
    worker = cluster.worker()
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="other")
    cluster.clock.sleep(30)
    worker.drain()
    assert thread.join(100)
    assert cluster.record("a").failed_on.alone_s == 0
    node = LocalNode("node1")
    cluster.clock.sleep(600)
    cluster.worker(**ALWAYS, **PATIENT, max_jobs=1, node=node).run()
    assert cluster.record("a").state is State.RELEASED
    cluster.clock.sleep(600)
    cluster.worker(**ALWAYS, **PATIENT, max_jobs=1, node=node).run()
    assert cluster.record("a").state is State.FAILED


def test_a_node_that_fails_every_job_backs_off_and_is_replaced(cluster: Cluster) -> None:
    """After three different jobs in a row the node takes none for a while; after the next it asks to be replaced."""
    for job in "abcdef":
        cluster.submit(job)
    node = MemoryNode("bad")
    assert cluster.worker(**ALWAYS, **PATIENT, node=node).run() == 1
    assert node.reallocations == ["3 different jobs in a row failed here, and on no other machine"]
    attempts = sorted(when for job in "abcdef" for when in started(cluster.record(job)))
    assert max(after - before for before, after in pairwise(attempts)) >= BACK_OFF
    assert all(cluster.record(job).state in {State.QUEUED, State.RELEASED} for job in "abcdef")
    cluster.worker().run()
    assert all(cluster.record(job).state is State.COMPLETED for job in "abcdef")


def test_a_job_that_gets_further_ends_the_row(cluster: Cluster) -> None:
    """Only different jobs in a row count; one that gets further on the node in between clears it."""
    assessment = SelfAssessment(cluster.clock, cluster.limits)
    for job in ("a", "b", "a", "b"):
        assert assessment.learn(job, against_node=True) is None
    assert assessment.back_off_s == 0
    assessment.learn("c", against_node=None)
    assessment.learn("d", against_node=False)
    assessment.learn("c", against_node=True)
    assert assessment.back_off_s == 0
    for job in ("d", "e"):
        assert assessment.learn(job, against_node=True) is None
    assert assessment.back_off_s == BACK_OFF.total_seconds()
    assert assessment.learn("c", against_node=True) == "3 different jobs in a row failed here, and on no other machine"


def test_jobs_that_fail_everywhere_say_nothing_about_the_node(cluster: Cluster) -> None:
    """A job that has failed on another machine, too, is evidence against the job."""
    for job in "abcde":
        cluster.submit(job)
        cluster.worker(**ALWAYS, **PATIENT, max_jobs=1).run()
    node = MemoryNode("good")
    assert cluster.worker(**ALWAYS, **PATIENT, node=node).run() == 0
    assert node.reallocations == []
    assert all(cluster.record(job).state is State.FAILED for job in "abcde")


def test_a_drained_worker_does_not_wait_for_its_back_off(cluster: Cluster) -> None:
    """A node that backs off is healthy, and leaves when it is told to."""
    for job in "abc":
        cluster.submit(job)
    worker = cluster.worker(**ALWAYS, **PATIENT)
    health_reports: list[float] = []
    worker._context = evolve(worker._context, alive=lambda: health_reports.append(cluster.clock.monotonic()))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(120)
    assert worker._assessment.back_off_s > 0
    assert cluster.clock.monotonic() - health_reports[-1] <= 10
    worker.drain()
    assert thread.join(10)


# ---- misfits ----


def misfit_worker(cluster: Cluster, *, image: str = "old", **limits: Any) -> Worker:
    """Return a worker that offers no workload."""
    return cluster.worker(image=image, offers=(), **limits)


def test_a_node_without_the_workload_leaves_the_job_to_others(cluster: Cluster) -> None:
    """Forty jobs survive a worker that knows none of their workloads, and another worker completes them."""
    jobs = [f"j{number}" for number in range(40)]
    for job in jobs:
        cluster.submit(job, "1\n3\n")
    assert misfit_worker(cluster).run() == 0
    for job in jobs:
        record = cluster.record(job)
        assert (record.state, record.failures, record.deaths) == (State.RELEASED, 0, 0)
        assert record.error == "waits for a node that can run it: 1 image lacks workload 'series-sum'"
        assert record.interruptions == {"misfit": 1}
    cluster.worker().run()
    assert all(cluster.record(job).state is State.COMPLETED for job in jobs)
    assert cluster.record("j0").misfits == Misfits()


def test_a_missing_program_is_a_misfit_before_anything_is_fetched(cluster: Cluster) -> None:
    """A node that lacks the program notes that without loading the input, and the job stays."""
    cluster.submit("a")
    worker = cluster.worker(workload={"command": ("gmx", "mdrun")}, idle_exit=timedelta(minutes=1))
    runner = FakeRunner(cluster.clock, missing=["gmx"])
    worker._context = evolve(worker._context, runner=runner)
    worker.run()
    record = cluster.record("a")
    assert record.error == "waits for a node that can run it: 1 image lacks program 'gmx'"
    assert not (cluster.root / "node1" / "a" / "input").exists()
    cluster.worker().run()
    assert cluster.record("a").state is State.COMPLETED


def test_a_refused_job_is_returned_without_a_write(cluster: Cluster) -> None:
    """Once a job's record says what an image lacks, no node with that image writes it again."""
    cluster.submit("a")
    misfit_worker(cluster).run()
    written = cluster.stored("a").version
    for _ in range(3):
        misfit_worker(cluster).run()
    assert cluster.stored("a").version == written
    assert len(cluster.record("a").attempts) == 1
    assert messages(cluster) == 1


def test_nodes_with_one_image_count_once(cluster: Cluster) -> None:
    """The job says how many images lack what it needs."""
    cluster.submit("a")
    for image in ("one", "two", "two", "three", "one"):
        misfit_worker(cluster, image=image).run()
    assert cluster.record("a").error == "waits for a node that can run it: 3 images lack workload 'series-sum'"
    assert [one.image for one in cluster.record("a").misfits.seen] == ["one", "two", "three"]


def test_a_job_that_fits_nowhere_fails_after_misfit_patience(cluster: Cluster) -> None:
    """A job without a node that fits fails after MISFIT_PATIENCE, by the store's clock, and says what was missing."""
    cluster.submit("a")
    patient: Any = {"misfit_patience": timedelta(hours=24), "idle_exit": timedelta(minutes=30)}
    for _ in range(46):
        misfit_worker(cluster, **patient).run()
        assert cluster.record("a").state is State.RELEASED
        assert len(cluster.record("a").attempts) == 1
    misfit_worker(cluster, misfit_patience=timedelta(hours=24), idle_exit=timedelta(hours=2)).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    assert record.error == "no node could run it for 1 day, 0:00:00: 1 image lacks workload 'series-sum'"
    assert cluster.queue.depth() == Depth(0, 0, 0)
    again = reopened(record, from_start=False)
    assert again.misfits == Misfits()  # an operator who reopens it wants it to be waited for again


def test_a_misfit_is_no_attempt_of_the_worker(cluster: Cluster) -> None:
    """A misfit counts neither towards --max-jobs, nor as work that keeps an idle worker from exiting."""
    for job in "abc":
        cluster.submit(job)
    began = cluster.clock.monotonic()
    misfit_worker(cluster, max_jobs=1, idle_exit=timedelta(minutes=2)).run()
    assert cluster.clock.monotonic() - began < 140
    assert all(outcomes(cluster.record(job)) == ["misfit"] for job in "abc")


def test_a_message_is_renewed_before_the_queue_moves_it_away(cluster: Cluster) -> None:
    """A message that was received half as often as allowed is sent as a new one, which no count ever ends."""
    cluster.queue = MemoryQueue(cluster.clock, max_receives=10)
    cluster.submit("a")
    misfit_worker(cluster, idle_exit=timedelta(hours=1)).run()
    assert cluster.queue.dead == []
    assert messages(cluster) == 1
    cluster.worker().run()
    record = cluster.record("a")
    assert record.state is State.COMPLETED
    assert record.dispatch > 10
    assert cluster.queue.depth() == Depth(0, 0, 0)


def test_a_summary_counts_images() -> None:
    """The summary says how many images lack each thing."""
    misfits = Misfits()
    for image, lacks in (("a", "program 'x'"), ("b", "program 'x'"), ("b", "program 'x'"), ("b", "workload 'y'")):
        misfits = misfits.including(Misfit("m", image, lacks))
    assert misfits.summary == "2 images lack program 'x'; 1 image lacks workload 'y'"


# ---- Holdfast's own faults ----


@pytest.mark.handles_defects
def test_a_fault_of_holdfasts_costs_the_job_a_try_and_not_the_worker(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged with its traceback and counted by machine; other jobs and workers go on."""
    for job in "ab":
        cluster.submit(job)

    def crash(self: FakeRunner, launch: Launch) -> Any:
        if launch.job == "a":
            raise ZeroDivisionError("on purpose")
        return start(self, launch)

    start = FakeRunner.start
    monkeypatch.setattr(FakeRunner, "start", crash)
    assert cluster.worker(max_failures=2, max_jobs=2).run() == 0
    record = cluster.record("a")
    assert cluster.record("b").state is State.COMPLETED
    assert record.state is State.RELEASED
    assert (record.failures, record.failed_on.machines) == (1, ("node1",))
    assert "a fault of Holdfast's, see the worker's log: ZeroDivisionError: on purpose" in (record.error or "")
    assert "job.handling_failed" in caplog.text
    assert "Traceback" in caplog.text
    assert cluster.worker(max_failures=2).run() == 0
    assert cluster.record("a").state is State.FAILED
    assert outcomes(cluster.record("a")) == ["holdfast_failed"] * 2


@pytest.mark.handles_defects
def test_a_dying_thread_of_an_attempt_ends_no_worker(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the uploader's thread costs a try; the checkpoint and the suspicion against it stay as they are."""
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=130), max_jobs=1).run()
    committed = cluster.record("a").checkpoint

    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("lifecycle.checkpoint.writer.CheckpointWriter.upload", crash)
        cluster.worker(max_jobs=2).run()
    record = cluster.record("a")
    assert outcomes(record)[1:] == ["holdfast_failed"] * 2
    assert (record.failures, record.mark.failed_resumes, record.checkpoint) == (2, 0, committed)
    cluster.worker().run()
    assert cluster.output("a") == "45150"


@pytest.mark.handles_defects
def test_a_fault_before_a_job_is_claimed_returns_its_message(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose handling fails is returned with a growing delay, and the next one is handled."""
    for job in "ab":
        cluster.submit(job, "1\n3\n")
    tries: list[float] = []

    def crash(message: Any, *args: Any, **kwargs: Any) -> Any:
        if message.keys.job == "a":
            tries.append(cluster.clock.monotonic())
            raise ZeroDivisionError("on purpose")
        return decide(message, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("lifecycle.attempt.worker.decide", crash)
        assert cluster.worker(idle_exit=timedelta(minutes=20)).run() == 0
    assert cluster.record("b").state is State.COMPLETED
    assert len(tries) > 3
    assert tries[3] - tries[2] > tries[2] - tries[1] > tries[1] - tries[0]
    assert cluster.memory.get(LAYOUT.job("a").record)
    cluster.worker(idle_exit=timedelta(minutes=20)).run()
    assert cluster.record("a").state is State.COMPLETED


def test_show_and_status_say_what_is_held_against_a_job(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` names the machines that failed the job, its mark and suspects; `--json` has the same."""
    cluster.submit("a")
    cluster.worker(max_running_time=timedelta(seconds=130), max_jobs=1).run()
    cluster.worker(**ALWAYS, **PATIENT, max_jobs=2).run()
    shown = "\n".join(story(cluster.stored("a"), []))
    assert "furthest      step 130, 2m 10s of computing; its fallback is used up" in shown
    assert "given up      3 at step 130, announced" in shown
    assert "failed on     node2" in shown
    row = job_object(cluster.stored("a"))
    assert (row["suspects"], row["failed_on"], row["misfits"], row["mark"]["step"]) == ([3], ["node2"], [], 130)
    cluster.submit("b")
    misfit_worker(cluster).run()
    assert "misfits       1 image lacks workload 'series-sum'" in "\n".join(story(cluster.stored("b"), []))
    assert capsys.readouterr().out == ""
