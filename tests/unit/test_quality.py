"""The quality of a checkpoint: its manifest says how it was captured, and never claims more than is true."""

from datetime import timedelta
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.fault_injection import unless_dead

from adapters.memory.runner import FakeWorkload
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.ports.runner import Exit


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def crash(cluster: Cluster, at: int) -> None:
    """Run one attempt that fails at step *at*."""
    cluster.worker(script=lambda _, step: 3 if step == at else None, max_jobs=1).run()


def drain(cluster: Cluster, after_s: float) -> None:
    """Run one worker, and drain it after *after_s*."""
    worker = cluster.worker(stop_grace=timedelta(seconds=20))
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    cluster.clock.sleep(after_s)
    worker.drain()
    assert thread.join(1000)


def test_an_announced_checkpoint_says_so(cluster: Cluster) -> None:
    """What the program announced is announced, and the job is known to announce."""
    cluster.submit("a")
    crash(cluster, 100)
    assert (cluster.manifest("a").quality, cluster.manifest("a").announces) == (Quality.ANNOUNCED, True)


def test_files_that_rest_while_the_program_runs_are_quiet(cluster: Cluster) -> None:
    """Files captured beside a running program, while they did not change, are no more than quiet."""
    cluster.submit("a", silent=True)
    crash(cluster, 100)
    assert (cluster.manifest("a").quality, cluster.manifest("a").announces) == (Quality.QUIET, False)


def test_files_left_by_a_program_that_saved_are_exited(cluster: Cluster) -> None:
    """If the program exits with a code that means saved, what it leaves is as good as the program."""
    cluster.submit("a", silent=True)
    drain(cluster, 50)
    assert cluster.manifest("a").quality is Quality.EXITED


@pytest.mark.parametrize(
    "left",
    [Exit(143, "", clean=False), Exit(1, ""), Exit(75, "", writing=True), None],
    ids=["of its signal", "with a failure", "saved beside a process that was writing", "killed"],
)
def test_files_left_by_a_dead_program_are_frozen(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, left: Exit | None
) -> None:
    """What any other end leaves is no more than what a power cut would have left."""

    def stop(self: FakeWorkload) -> None:
        self._exited = left

    monkeypatch.setattr(FakeWorkload, "stop", stop)
    cluster.submit("a", silent=True)
    drain(cluster, 50)
    assert cluster.manifest("a").quality is Quality.FROZEN


def test_a_result_is_exited(cluster: Cluster) -> None:
    """The outputs of a completed job are what its program left."""
    cluster.submit("a")
    cluster.worker().run()
    result = cluster.record("a").result
    assert result is not None
    assert fetch_manifest(cluster.memory, result.manifest).quality is Quality.EXITED
