"""A node that runs out of something says so, in the reason of the attempt's end."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve
from support.cluster import Cluster

from adapters.memory.runner import FakeWorkload
from adapters.process.exhaustion import disk_note, memory_note, oom_kills
from lifecycle.attempt.outcome import not_ready, of_disk
from lifecycle.ports.runner import Report

EVENTS = "low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("membership", "file", "text"),
    [
        ("0::/docker/abc\n", "docker/abc/memory.events", EVENTS),
        ("0::/\n", "memory.events", EVENTS),
        ("0::/on/the/host\n", "memory.events", EVENTS),
        ("4:cpu,memory:/docker/abc\n", "memory/docker/abc/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ("4:memory:/on/the/host\n", "memory/memory.oom_control", "oom_kill_disable 0\noom_kill 3\n"),
    ],
)
def test_the_kernels_count_is_found(tmp_path: Path, membership: str, file: str, text: str) -> None:
    """The count is read in both versions of control groups, also if the path is that of the host."""
    (tmp_path / "self").write_text(membership)
    (tmp_path / "cgroup" / file).parent.mkdir(parents=True)
    (tmp_path / "cgroup" / file).write_text(text)
    assert oom_kills(tmp_path / "cgroup", tmp_path / "self") == 3


def test_a_kernel_that_does_not_count_is_unknown(tmp_path: Path) -> None:
    """Without control groups, or with a file of another form, nothing is known."""
    assert oom_kills(tmp_path, tmp_path / "none") is None
    (tmp_path / "memory.events").write_text("oom_kill many\n")
    assert oom_kills(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("before", "after", "killed", "note"),
    [
        (3, 4, True, "out of memory"),
        (3, 4, False, "out of memory"),
        (3, 3, True, None),
        (None, None, True, "may have run out of memory"),
        (None, None, False, None),
    ],
)
def test_a_kill_for_want_of_memory_is_told(
    before: int | None,
    after: int | None,
    killed: bool,  # noqa: FBT001 - a table
    note: str | None,
) -> None:
    """The kernel's count proves it; without one, a SIGKILL that nobody here sent is a hint."""
    found = memory_note(before, after, killed=killed)
    assert (note in found) if note and found else found is note


@pytest.mark.parametrize(
    ("free", "inodes", "note"),
    [(100, 5, None), (0, 5, "0 MiB are left"), (100, 0, "no more files")],
)
def test_a_full_disk_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, inodes: int, note: str | None
) -> None:
    """A disk without room, or without inodes, is full."""
    disk = SimpleNamespace(f_bavail=free << 20, f_frsize=1, f_blocks=1 << 40, f_files=10, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    found = disk_note(tmp_path)
    assert (note in found) if note and found else found is note


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOMEM, "out of memory"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "this node's disk fails"),
    ],
)
def test_each_shortage_has_its_own_reason(number: int, advice: str) -> None:
    """Only an error that no shortage explains is called a failing disk."""
    for outcome in (of_disk(OSError(number, "x")), not_ready(OSError(number, "x"))):
        assert advice in (outcome.error or "")
        assert ("disk fails" in (outcome.error or "")) == (number == errno.EIO)


def test_the_reason_is_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the runner noted at the end of a workload stands in the job's record, and in its log."""
    poll = FakeWorkload.poll

    def noted(self: FakeWorkload) -> Report:
        report = poll(self)
        return evolve(report, exited=evolve(report.exited, notes=("out of memory",))) if report.exited else report

    monkeypatch.setattr(FakeWorkload, "poll", noted)
    cluster = Cluster(tmp_path)
    cluster.submit("a")
    cluster.worker(script=lambda launch, step: 137 if step == 5 else None, max_jobs=1).run()
    assert (cluster.record("a").error or "").startswith("exit code 137: out of memory")
