"""Snapshots: a capture of the workload's files at one moment, on the node's own disk.

A checkpoint that the workload announced is complete and no longer written to, so it is moved. The files of a program
that announces nothing are captured once they have not changed for a while:

- A file is hard-linked, which costs nothing at any size. If the program replaces files by renaming, the link keeps the
  old content.
- If the program writes to the file in place after all, this is noticed once the file has been read. The snapshot is
  thrown away, and from then on that file is copied.
- Growing files, such as logs, are captured up to the length that they have.
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

COPY_BYTES: Final = 1 << 20

Scan = Mapping[str, tuple[int, int, int]]
"""State of a workload's files: inode, size in bytes and mtime in ns of each, by path in the job's directory."""


@frozen
class SnapshotFile:
    """A file of a snapshot.

    Attributes:
        path: Path in the job's directory, with `/` between its parts.
        source: Where its bytes can be read.
        size: Number of bytes that belong to the snapshot.
        mode: Permission bits.
        mtime_ns: Time of its last change when it was captured; None for a file that may grow meanwhile.
    """

    path: str
    source: Path
    size: int
    mode: int
    mtime_ns: int | None

    def torn_reason(self) -> str | None:
        """Return why the file no longer belongs to the snapshot's moment; None if it still does.

        Raises:
            OSError: It cannot be examined.
        """
        found = self.source.stat()
        if self.mtime_ns is None:
            return "it became shorter, though it is said to only grow" if found.st_size < self.size else None
        is_same = (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)
        return None if is_same else "it was written to while it was saved"


@frozen
class Snapshot:
    """A capture of the workload's files.

    Attributes:
        seq: Its number; increases over all attempts of the job.
        step: Number of steps done when it was captured; None if the workload did not say.
        directory: Directory that holds it, used by nothing else.
        files: Its files, in order of their paths.
        is_last: Whether it is the attempt's last one, which is committed by the same write that ends the attempt.
        is_result: Whether it holds the outputs of a completed job, which are uploaded even if nothing in them is new.
    """

    seq: int
    step: int | None
    directory: Path
    files: tuple[SnapshotFile, ...] = field(default=(), repr=False)
    is_last: bool = False
    is_result: bool = False

    @property
    def bytes(self) -> int:
        """Total size of its files, in bytes."""
        return sum(file.size for file in self.files)

    def ensure_consistent(self) -> None:
        """Check, after everything has been read, that all files belong to one moment.

        Raises:
            TornSnapshotError: Some files have changed since they were captured. It names all of them.
            OSError: The files cannot be examined.
        """
        if torn := {file.path: why for file in self.files if (why := file.torn_reason())}:
            raise TornSnapshotError(next(iter(torn.values())), list(torn))

    def discard(self) -> None:
        """Remove it from the disk. Never fails; safe to repeat."""
        shutil.rmtree(self.directory, ignore_errors=True)


def capture_announced(announced: Announced, workload: Workload, *, seq: int, dirs: JobDirs) -> Snapshot:
    """Capture an announced checkpoint by moving it, together with the growing files.

    Raises:
        OSError: It cannot be moved.
    """
    target = _new_directory(dirs, seq)
    announced.path.rename(target / dirs.checkpoint.name)
    # Growing files last: they may be ahead of the state (a resumed program can truncate them), but never behind it.
    state = [file for file in _files(target) if matches_any(file.path, workload.checkpoint)]
    return Snapshot(seq, announced.step, target, _sorted(state, _capture_growing(dirs, workload, target)))


def capture_output(*, seq: int, step: int | None, dirs: JobDirs) -> Snapshot:
    """Capture the outputs of a workload that has ended, by moving them.

    Raises:
        OSError: They cannot be moved.
    """
    target = _new_directory(dirs, seq)
    if dirs.output.exists():  # a program may remove the folder: then it has no outputs, and the disk is not at fault
        dirs.output.rename(target / dirs.output.name)
    return Snapshot(seq, step, target, _sorted(_files(target)), is_last=True, is_result=True)


def scan(dirs: JobDirs, workload: Workload) -> Scan:
    """Return the state files of a workload that announces nothing, as they are now."""
    return {
        path: (found.st_ino, found.st_size, found.st_mtime_ns)
        for path, found in _walk(dirs.root)
        if matches_any(path, workload.checkpoint) and not matches_any(path, workload.growing)
    }


def capture_files(
    seen: Scan, workload: Workload, *, seq: int, step: int | None, dirs: JobDirs, in_place: set[str]
) -> Snapshot | None:
    """Capture the state of a workload that announces nothing, by linking or copying, and the growing files.

    Args:
        seen: Its state files, as they have been for a while.
        workload: Its patterns.
        seq: Number of the snapshot.
        step: Number of steps done; None if unknown.
        dirs: The job's directories.
        in_place: Paths of files that are known to be written to in place, and are therefore copied.

    Returns:
        The snapshot; None if files have changed since *seen*, or there are none.

    Raises:
        OSError: The disk is full, or a file cannot be read.
    """
    target = _new_directory(dirs, seq)
    try:
        for path in seen:
            (_copy if path in in_place else _link)(dirs.root / path, target / path)
        state = [file for file in _files(target) if file.path in seen]
        growing = _capture_growing(dirs, workload, target)
    except FileNotFoundError:  # removed by the program since *seen*
        state = growing = []
    if not state or scan(dirs, workload) != seen:
        shutil.rmtree(target, ignore_errors=True)
        return None
    return Snapshot(seq, step, target, _sorted(state, growing))


def matches_any(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether *path* matches one of *patterns*. `*` and `?` do not cross a `/`, `**` does."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
    return re.compile(text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]"), re.DOTALL)


def _capture_growing(dirs: JobDirs, workload: Workload, target: Path) -> list[SnapshotFile]:
    """Link the growing files into *target*, and return each with the length that it has now."""
    captured = []
    for path, found in _walk(dirs.root) if workload.growing else ():
        if matches_any(path, workload.growing) and not (target / path).exists():
            with suppress(FileNotFoundError):
                _link(dirs.root / path, target / path)
                captured.append(SnapshotFile(path, target / path, found.st_size, found.st_mode, None))
    return captured


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every regular file of the job. Links and special files are not part of its state."""
    for area in sorted(AREAS):
        for parent, _, names in os.walk(root / area):
            for name in names:
                path = Path(parent, name)
                with suppress(FileNotFoundError):
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode):
                        yield path.relative_to(root).as_posix(), found


def _files(target: Path) -> list[SnapshotFile]:
    """Return everything in a snapshot's directory."""
    return [
        SnapshotFile(path, target / path, found.st_size, found.st_mode, found.st_mtime_ns)
        for path, found in _walk(target)
    ]


def _sorted(*files: list[SnapshotFile]) -> tuple[SnapshotFile, ...]:
    return tuple(sorted((file for each in files for file in each), key=lambda file: file.path))


def _new_directory(dirs: JobDirs, seq: int) -> Path:
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
    """Copy within the kernel. A file system that can share blocks between files copies nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                pass
        except OSError:
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            shutil.copyfileobj(reader, writer, COPY_BYTES)
    shutil.copymode(source, target)
