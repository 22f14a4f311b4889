"""Files at the boundary to a program: what it leaves is saved as it is, or the job says what could not be saved."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cluster import LAYOUT, Cluster
from support.unprivileged import unprivileged

from lifecycle.job_record import JobRecord
from lifecycle.ports.runner import Launch
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def at(step: int, act: Callable[[Launch], None], *, epoch: int | None = None) -> Callable[[Launch, int], int | None]:
    """Return a script in which the program does *act* before a step, in each attempt or in one."""

    def script(launch: Launch, now: int) -> int | None:
        if now == step and epoch in {None, launch.epoch}:
            act(launch)
        return None

    return script


def events(cluster: Cluster, name: str) -> list[dict[str, object]]:
    """Return the events of that name of all attempts at the job."""
    logs = [cluster.memory.get(listed.key) for listed in cluster.memory.list(LAYOUT.job("a").logs)]
    lines = [json.loads(line) for log in logs if log for line in log.body.splitlines()]
    return [line for line in lines if line["event"] == name]


def outcomes(record: JobRecord) -> list[str | None]:
    return [attempt.outcome for attempt in record.attempts]


# ---- what cannot be listed or read ----


def test_outputs_that_cannot_be_listed_are_a_failure() -> None:
    """A job is not completed without a part of its results; the reason names what could not be read."""

    def part(folder: Path) -> None:
        cluster = Cluster(folder)
        cluster.submit("a")

        def close(launch: Launch) -> None:
            (launch.dirs.output / "results").mkdir()
            (launch.dirs.output / "results" / "precious").touch()
            (launch.dirs.output / "results").chmod(0)

        cluster.worker(script=at(299, close, epoch=1)).run()
        record = cluster.record("a")
        assert outcomes(record) == ["workload_failed", "completed"]
        assert record.state is State.COMPLETED

    unprivileged(part)


def test_a_checkpoint_that_cannot_be_listed_is_left_out_and_said() -> None:
    """The next one is captured in its time, and no failure is counted."""

    def part(folder: Path) -> None:
        cluster = Cluster(folder)
        cluster.submit("a", silent=True)

        def script(launch: Launch, step: int) -> int | None:
            closed = launch.dirs.checkpoint / "closed"
            if step == 50:
                closed.mkdir(0)
            if step == 130:
                closed.rmdir()
            return None

        cluster.worker(script=script).run()
        assert outcomes(cluster.record("a")) == ["completed"]
        missing = events(cluster, "no_snapshot")
        assert len(missing) == 2
        assert "checkpoint/closed" in str(missing[0]["why"])
        assert [event["seq"] for event in events(cluster, "checkpoint")]

    unprivileged(part)


# ---- links ----


@pytest.mark.parametrize("silent", [False, True], ids=["announcing", "silent"])
@pytest.mark.parametrize("name", ["checkpoint", "output", "input", "console"])
def test_a_directory_that_became_a_link_fails_the_attempt(cluster: Cluster, name: str, *, silent: bool) -> None:
    """Nothing behind the link is read, written or removed, by this attempt or the next."""
    outside = cluster.root / "outside"
    outside.mkdir()
    names = ("state.txt", "000000.txt", "input.txt")
    for precious in names:
        (outside / precious).write_bytes(b"precious")

    def relink(launch: Launch) -> None:
        directory = launch.dirs.root / name
        directory.rename(launch.dirs.root / "moved")
        directory.symlink_to(outside)

    cluster.submit("a", silent=silent)
    cluster.worker(script=at(299, relink, epoch=1)).run()
    record = cluster.record("a")
    assert outcomes(record) == ["workload_failed", "completed"]
    error = str(events(cluster, "workload_failed")[0]["error"])
    assert f"{name}/ is a link or a file, and was a directory" in error
    assert all((outside / precious).read_bytes() == b"precious" for precious in names)
    assert not any(b"precious" in stored.body for stored in cluster.memory._objects.values())


def test_a_restore_replaces_links_that_the_program_left(cluster: Cluster) -> None:
    """A link where the checkpoint has a file or a directory is removed; what it points to is left alone."""
    outside = cluster.root / "outside"
    outside.mkdir()
    (outside / "state.txt").write_bytes(b"precious")
    cluster.submit("a")

    def script(launch: Launch, step: int) -> int | None:
        if launch.epoch == 1 and step == 100:
            (launch.dirs.checkpoint / "state.txt").symlink_to(outside / "state.txt")
            (launch.dirs.checkpoint / "table.bin" / "below").mkdir(parents=True)
            (launch.dirs.checkpoint / "stray").symlink_to(outside)
            return 3
        return None

    cluster.worker(script=script).run()
    assert outcomes(cluster.record("a"))[-1] == "completed"
    assert cluster.output("a") == "45150"
    assert (outside / "state.txt").read_bytes() == b"precious"


# ---- what cannot be saved ----


def test_pipes_and_sockets_are_named_and_left_out(cluster: Cluster) -> None:
    """The event log names them, once; everything else is saved."""
    cluster.submit("a", silent=True)
    cluster.worker(script=at(10, lambda launch: os.mkfifo(launch.dirs.checkpoint / "pipe"))).run()
    assert outcomes(cluster.record("a")) == ["completed"]
    (event,) = events(cluster, "skipped_entries")
    assert (event["entries"], event["count"]) == (["checkpoint/pipe"], 1)
    assert len(events(cluster, "checkpoint")) > 1
