"""The files that the processes of a job have open for writing, or mapped so that they can write to them.

Read from /proc/PID/task, because threads may have descriptors of their own, and because a main thread that has exited
shows neither maps nor descriptors (https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html).
"""

import ctypes
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from adapters.process.process_tree import Process, children, descendants, find
from lifecycle.ports.runner import FilesInUse

KCMP_NUMBERS: Final = {"x86_64": 312, "aarch64": 272}  # system call numbers
KCMP_FILES: Final = 2  # linux/kcmp.h
DELETED: Final = " (deleted)"

FileId = tuple[int, int] | str


def files_in_use(supervisor: int) -> FilesInUse:
    """Return what the processes below the process *supervisor* may be changing."""
    mapped: set[FileId] = set()
    opened: dict[bool, set[FileId]] = {False: set(), True: set()}  # by whether for appending
    unreadable = False
    for process in descendants(supervisor, children()):
        try:
            mapped.update(_mapped(process))
            for appends, file in _opened(process):
                opened[appends].add(file)
        except OSError:
            unreadable = unreadable or _is_alive(process)
    return FilesInUse(frozenset(mapped), frozenset(opened[False]), frozenset(opened[True]), unreadable=unreadable)


def _is_alive(process: Process) -> bool:
    """Return whether what could not be read belongs to a process that still exists."""
    now = find(process.pid)
    return now is not None and now.key == process.key and not now.is_dead()


def _tasks(process: Process) -> list[Path]:
    return sorted(Path(f"/proc/{process.pid}/task").iterdir(), key=lambda task: int(task.name))


def _mapped(process: Process) -> Iterator[FileId]:
    """Yield the files that are mapped shared and writable. Threads share their memory: one that has it is enough."""
    for task in _tasks(process):
        maps = ""
        with suppress(FileNotFoundError, ProcessLookupError):
            maps = (task / "maps").read_text(errors="surrogateescape")
        for line in maps.splitlines():
            _, permissions, _, device, inode, *path = line.split(maxsplit=5)
            if permissions[1] == "w" and permissions[3] == "s" and inode != "0":
                major, minor = device.split(":")
                yield os.makedev(int(major, 16), int(minor, 16)), int(inode)
                yield path[0].removesuffix(DELETED) if path else ""  # some file systems show other numbers there
        if maps:
            return


def _opened(process: Process) -> Iterator[tuple[bool, FileId]]:
    """Yield the files that are open for writing, each with whether that is for appending."""
    tasks = _tasks(process)
    for task in tasks:
        if task is not tasks[0] and _has_same_files(int(tasks[0].name), int(task.name)):
            continue
        with suppress(FileNotFoundError, ProcessLookupError):
            for descriptor in (task / "fd").iterdir():
                with suppress(FileNotFoundError, ProcessLookupError, ValueError, StopIteration):
                    found = descriptor.stat()
                    if stat.S_ISREG(found.st_mode):
                        flags = _flags(task / "fdinfo" / descriptor.name)
                        if flags & os.O_ACCMODE != os.O_RDONLY:
                            yield bool(flags & os.O_APPEND), (found.st_dev, found.st_ino)


def _flags(fdinfo: Path) -> int:
    """Return the flags that a descriptor was opened with."""
    return next(int(line.split()[1], 8) for line in fdinfo.read_text().splitlines() if line.startswith("flags:"))


def _has_same_files(first: int, second: int) -> bool:
    """Return whether two threads are known to share their descriptors (kcmp(2))."""
    number = KCMP_NUMBERS.get(platform.machine())
    if number is None:
        return False
    return bool(ctypes.CDLL(None).syscall(number, first, second, KCMP_FILES, 0, 0) == 0)
