"""Snapshots: a picture of the workload's files at one moment, on the node's own disk, in a directory of ours.

What the workload announced is complete and no longer written to: it is moved. Of a program that announces nothing, the
picture is taken once nothing has changed for a while. A file is linked, which costs nothing at any size, and holds for
whoever replaces files by renaming; should it be written to in place after all, that is seen when it has been read, the
snapshot is thrown away, and from then on that file is copied. Outputs that only grow are taken to the length they have.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from attrs import field, frozen

from lifecycle.checkpoint.manifest import AREAS
from lifecycle.errors import TornSnapshotError
from lifecycle.ports.runner import Announced, JobDirs, Workload

CHUNK: Final = 1 << 20

Scan = Mapping[str, tuple[int, int, int]]
"""Files by path in the job's directory: inode, size and time of the last change of each."""


@frozen
class SnapshotFile:
    """A file of a snapshot.

    Attributes:
        path: In the job's directory, `/` between parts.
        source: Where its bytes can be read.
        size: So many of them are meant, in bytes.
        mode: Permission bits.
        changed_ns: Its last change; None for one that may grow meanwhile.
    """

    path: str
    source: Path
    size: int
    mode: int
    mtime_ns: int | None

    def torn(self) -> str | None:
        """What was done to it since the snapshot was taken, that must not be; None if nothing was."""
        seen = self.source.stat()
        if self.mtime_ns is None:
            return "it became shorter, though it is said to only grow" if seen.st_size < self.size else None
        is_same = (seen.st_size, seen.st_mtime_ns) == (self.size, self.mtime_ns)
        return None if is_same else "it was written to while it was saved"


@frozen
class Snapshot:
    """A picture of the workload's files.

    Attributes:
        seq: Its number.
        step: How far the workload was, if it said.
        directory: Where it lies; ours alone.
        files: What it consists of, in path order.
        is_last: Whether it closes the attempt: then it is committed together with the attempt's last state.
        is_result: Whether it is a completed job's outputs: then it is uploaded even if nothing in it is new.
    """

    seq: int
    step: int | None
    directory: Path
    files: tuple[SnapshotFile, ...] = field(default=(), repr=False)
    is_last: bool = False
    is_result: bool = False

    @property
    def bytes(self) -> int:
        """The size of all files, in bytes."""
        return sum(file.size for file in self.files)

    def ensure_consistent(self) -> None:
        """Make sure, once everything has been read, that it was of one moment.

        Raises:
            TornSnapshotError: Files were written to since the snapshot was taken; it names all of them.
            OSError: The disk fails.
        """
        if torn := {file.path: why for file in self.files if (why := file.torn())}:
            raise TornSnapshotError(next(iter(torn.values())), list(torn))

    def discard(self) -> None:
        """Remove it from the disk. Safe to repeat."""
        shutil.rmtree(self.directory, ignore_errors=True)


def capture_announced(announced: Announced, workload: Workload, *, seq: int, dirs: JobDirs) -> Snapshot:
    """Make an announced checkpoint ours, by moving it; with it, the outputs that only grow.

    Raises:
        OSError: It cannot be moved.
    """
    target = _fresh(dirs, seq)
    announced.path.rename(target / dirs.checkpoint.name)
    state = [file for file in _files(target) if matches_any(file.path, workload.checkpoint)]
    return Snapshot(seq, announced.step, target, _in_order(state, _growing(dirs, workload, target)))


def capture_output(*, seq: int, step: int | None, dirs: JobDirs) -> Snapshot:
    """Make the outputs of a workload that has ended ours, by moving them.

    Raises:
        OSError: They cannot be moved.
    """
    target = _fresh(dirs, seq)
    if dirs.output.exists():  # a program may remove what it needs no more: then it has no outputs, and the disk is well
        dirs.output.rename(target / dirs.output.name)
    return Snapshot(seq, step, target, _in_order(_files(target)), is_last=True, is_result=True)


def scan(dirs: JobDirs, workload: Workload) -> Scan:
    """The files that are the state of a workload that announces nothing, as they stand now."""
    return {
        path: (seen.st_ino, seen.st_size, seen.st_mtime_ns)
        for path, seen in _walk(dirs.root)
        if matches_any(path, workload.checkpoint) and not matches_any(path, workload.growing)
    }


def capture_files(
    seen: Scan, workload: Workload, *, seq: int, step: int | None, dirs: JobDirs, in_place: set[str]
) -> Snapshot | None:
    """Link, or copy, the state of a workload that announces nothing, and the outputs that only grow.

    Args:
        seen: The files, as they stood still for a while.
        workload: Which files are what.
        seq: The snapshot's number.
        step: How far the workload is.
        dirs: The job's directories.
        in_place: Paths of files that are known to be written to in place: these are copied.

    Returns:
        None if they did not stand still.

    Raises:
        OSError: The disk is full, or a file cannot be read.
    """
    target = _fresh(dirs, seq)
    try:
        for path in seen:
            (_copy if path in in_place else _link)(dirs.root / path, target / path)
        state = [file for file in _files(target) if file.path in seen]
        growing = _growing(dirs, workload, target)
    except FileNotFoundError:
        state = growing = []
    if not state or scan(dirs, workload) != seen:
        shutil.rmtree(target, ignore_errors=True)
        return None
    return Snapshot(seq, step, target, _in_order(state, growing))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
    return re.compile(text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]"), re.DOTALL)


def matches_any(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether *path* is meant by one of *patterns*: `*` and `?` stay in a folder, `**` does not."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def _growing(dirs: JobDirs, workload: Workload, target: Path) -> list[SnapshotFile]:
    """The outputs that only grow, linked, to the length that each has now."""
    found = []
    for path, seen in _walk(dirs.root) if workload.growing else ():
        if matches_any(path, workload.growing) and not (target / path).exists():
            with suppress(FileNotFoundError):
                _link(dirs.root / path, target / path)
                found.append(SnapshotFile(path, target / path, seen.st_size, seen.st_mode, None))
    return found


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file of the job; links and special files are no state."""
    for area in sorted(AREAS):
        for parent, _, names in os.walk(root / area):
            for name in names:
                path = Path(parent, name)
                with suppress(FileNotFoundError):
                    seen = path.lstat()
                    if stat.S_ISREG(seen.st_mode):
                        yield path.relative_to(root).as_posix(), seen


def _files(target: Path) -> list[SnapshotFile]:
    """Everything in a snapshot's directory."""
    return [
        SnapshotFile(path, target / path, seen.st_size, seen.st_mode, seen.st_mtime_ns) for path, seen in _walk(target)
    ]


def _in_order(*files: list[SnapshotFile]) -> tuple[SnapshotFile, ...]:
    return tuple(sorted((file for each in files for file in each), key=lambda file: file.path))


def _fresh(dirs: JobDirs, seq: int) -> Path:
    target = dirs.snapshots / f"{seq:06d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    return target


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # this file system, or this file, cannot be linked
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy, within the kernel; a file system that can share blocks copies nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                pass
        except OSError:
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            shutil.copyfileobj(reader, writer, CHUNK)
    shutil.copymode(source, target)
