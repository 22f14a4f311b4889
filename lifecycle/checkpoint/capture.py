"""Capturing snapshots of the workload's files.

A checkpoint that the workload announced is complete and no longer written to, so it is moved. The files of a program
that announces nothing are captured once they have not changed for a while:

- A file is hard-linked, which costs nothing at any size. If the program replaces files by renaming, the link keeps the
  old content.
- If the program writes to the file in place after all, this is noticed once the file has been read. The snapshot is
  thrown away, and from then on that file is copied.
- Growing files, such as logs, are captured up to the length that they have.

No link is followed, and what cannot be listed or read is an error (`lifecycle.checkpoint.tree`).
"""

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from attrs import define, field

from lifecycle.checkpoint.manifest import AREAS
from lifecycle.checkpoint.patterns import compiled
from lifecycle.checkpoint.restore_target import is_part
from lifecycle.checkpoint.snapshot import Snapshot, SnapshotFile
from lifecycle.checkpoint.tree import discard_tree, ensure_directory, move_tree, open_file, remove_tree, walk
from lifecycle.ports.runner import Announced, JobDirs, Workload

COPY_BYTES: Final = 1 << 20
EVERYTHING: Final = ("**",)


class FileState(NamedTuple):
    """What is compared to find out whether a file has changed."""

    inode: int
    size: int
    mtime_ns: int
    mode: int


Scan = Mapping[str, FileState]
"""State of a workload's files, by path in the job's directory."""


def ensure_directories(dirs: JobDirs) -> None:
    """Check that the job's directories are still directories: a program may have put a link where one was.

    Raises:
        LinkedDirectoryError: One of them is a link, or a file. What it points to was not touched.
    """
    for directory in (dirs.input, dirs.checkpoint, dirs.output, dirs.console):
        ensure_directory(directory)


def capture_announced(announced: Announced, workload: Workload, *, seq: int, dirs: JobDirs) -> Snapshot:
    """Capture an announced checkpoint by moving it, together with the growing files.

    Raises:
        OSError: It cannot be moved, or not all of it can be examined.
    """
    target = _new_directory(dirs, seq)
    try:
        move_tree(announced.path, target / dirs.checkpoint.name)
        moved = _survey(target, state=EVERYTHING)
        wanted = compiled(workload.checkpoint)
        state = {path: found for path, found in moved.state.items() if wanted.fullmatch(path)}
        # Growing files last: they may be ahead of the state (a resumed program can truncate them), but never behind it.
        live = _survey(dirs.root, growing=workload.growing) if workload.growing else _Survey()
        growing = {path: found for path, found in live.growing.items() if path not in moved.state}
        files = (*_files(state, target), *_link_growing(growing, dirs, target))
        return Snapshot(seq, announced.step, target, _sorted(files), skipped=(*moved.special, *live.special))
    except OSError:
        discard_tree(target)
        raise


def capture_output(*, seq: int, step: int | None, dirs: JobDirs) -> Snapshot:
    """Capture the outputs of a workload that has ended, by moving them.

    Raises:
        OSError: They cannot be moved, or not all of them can be examined.
    """
    target = _new_directory(dirs, seq)
    with suppress(FileNotFoundError):  # a program may remove the folder: then it has no outputs
        move_tree(dirs.output, target / dirs.output.name)
    moved = _survey(target, state=EVERYTHING)
    files = _sorted(_files(moved.state, target))
    return Snapshot(seq, step, target, files, skipped=tuple(moved.special), is_last=True, is_result=True)


def scan(dirs: JobDirs, workload: Workload) -> Scan:
    """Return the state files of a workload that announces nothing, as they are now.

    Raises:
        OSError: A directory cannot be listed.
    """
    return _survey(dirs.root, state=workload.checkpoint, growing=workload.growing).state


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
        inodes = {path: _place(path, found, dirs, target, copy=path in in_place) for path, found in seen.items()}
        # A growing file may be ahead of the state, but never behind it: its length is taken after the state.
        now = _survey(dirs.root, state=workload.checkpoint, growing=workload.growing)
        if not seen or now.state != seen:
            discard_tree(target)
            return None
        files = (*_files(seen, target, inodes), *_link_growing(now.growing, dirs, target))
    except FileNotFoundError:  # removed by the program since *seen*
        discard_tree(target)
        return None
    except OSError:
        discard_tree(target)
        raise
    return Snapshot(seq, step, target, _sorted(files), skipped=tuple(now.special))


@define
class _Survey:
    """What there is in a directory that is laid out like the job's, by path."""

    state: dict[str, FileState] = field(factory=dict)
    growing: dict[str, FileState] = field(factory=dict)
    special: list[str] = field(factory=list)


def _survey(root: Path, *, state: tuple[str, ...] = (), growing: tuple[str, ...] = ()) -> _Survey:
    """Examine everything that matches the patterns *growing* or, else, *state*."""
    found, is_state, is_growing = _Survey(), compiled(state).fullmatch, compiled(growing).fullmatch
    for area in sorted(AREAS):
        for path, seen in walk(root, area):
            if is_part(path.rpartition("/")[2]):  # ours, left by a broken-off restore: no state of the program
                continue
            kind = stat.S_IFMT(seen.st_mode)
            into = found.growing if growing and is_growing(path) else found.state if is_state(path) else None
            if into is None or kind == stat.S_IFDIR:
                continue
            if kind == stat.S_IFREG:
                into[path] = FileState(seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_mode)
            elif kind != stat.S_IFLNK:
                found.special.append(path)
    return found


def _files(found: Scan, target: Path, inodes: Mapping[str, int] | None = None) -> list[SnapshotFile]:
    """Return *found* as files of the snapshot in *target*; *inodes* are those of copies."""
    placed = inodes or {}
    return [
        SnapshotFile(path, target / path, seen.size, seen.mode, seen.mtime_ns, placed.get(path, seen.inode))
        for path, seen in found.items()
    ]


def _link_growing(growing: Scan, dirs: JobDirs, target: Path) -> list[SnapshotFile]:
    """Link the growing files into *target*, and return each with the length that it had when it was examined."""
    captured = []
    for path, seen in growing.items():
        with suppress(FileNotFoundError):
            _place(path, seen, dirs, target, copy=False)
            captured.append(SnapshotFile(path, target / path, seen.size, seen.mode, seen.mtime_ns, grows=True))
    return captured


def _sorted(files: tuple[SnapshotFile, ...] | list[SnapshotFile]) -> tuple[SnapshotFile, ...]:
    return tuple(sorted(files, key=lambda file: file.path))


def _new_directory(dirs: JobDirs, seq: int) -> Path:
    target = dirs.snapshots / f"{seq:06d}"
    remove_tree(target)
    target.mkdir(parents=True)
    return target


def _place(path: str, seen: FileState, dirs: JobDirs, target: Path, *, copy: bool) -> int:
    """Put a file of the job into the snapshot in *target*, and return its inode there."""
    source, placed = dirs.root / path, target / path
    placed.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(source, placed, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:  # this file system, or this file, cannot be linked
            pass
        else:
            return seen.inode
    return _copy(source, placed, seen)


def _copy(source: Path, target: Path, seen: FileState) -> int:
    """Copy within the kernel, and return the copy's inode. A file system that can share blocks copies nothing."""
    with open_file(source) as reader, target.open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                pass
        except OSError:
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            shutil.copyfileobj(reader, writer, COPY_BYTES)
        writer.flush()
        os.utime(writer.fileno(), ns=(seen.mtime_ns, seen.mtime_ns))
        os.fchmod(writer.fileno(), stat.S_IMODE(seen.mode))
        return os.fstat(writer.fileno()).st_ino
