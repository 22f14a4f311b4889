"""Signs that a workload ended because its node ran out of something, which its exit code does not tell.

The kernel counts the processes of a control group that it killed for want of memory: `oom_kill` in `memory.events`
(https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files), or in version 1 in `memory.oom_control`.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
FULL_SHARE: Final = 0.001  # of a disk
FULL_BYTES: Final = 16 << 20


def oom_kills(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return how many processes of this container the kernel has killed for want of memory; None if it does not say."""
    for file in _counters(cgroups, membership):
        with suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
    return None


def memory_note(before: int | None, after: int | None, *, killed: bool) -> str | None:
    """Return what the counts before and after a run say about its end.

    Args:
        before: The count at its start.
        after: The count at its end.
        killed: Whether it died of a SIGKILL that Holdfast did not send.
    """
    if before is not None and after is not None:
        if after > before:
            return "out of memory: the kernel killed a process of this container (oom_kill in memory.events)"
        return None
    return "killed by SIGKILL: it may have run out of memory" if killed else None


def disk_note(directory: Path) -> str | None:
    """Return that the disk of *directory* is full, if it is."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    free_bytes, all_bytes = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free_bytes < min(FULL_BYTES, FULL_SHARE * all_bytes):
        return f"the disk is full: {free_bytes >> 20} MiB are left"
    if disk.f_files and not disk.f_favail:
        return "the disk is full: it can hold no more files (inodes)"
    return None


def _counters(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the files that may hold the count, the best first."""
    with suppress(OSError):
        for line in membership.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield cgroups / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
    yield cgroups / "memory.events"  # inside a container, the path may be the host's
    yield cgroups / "memory" / "memory.oom_control"
