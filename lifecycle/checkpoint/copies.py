"""Copies and links of single files, in the directory of a snapshot."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from lifecycle.checkpoint.sparse import copy_data, copy_steps
from lifecycle.checkpoint.survey import FileState
from lifecycle.checkpoint.tree import open_file, remove_tree
from lifecycle.ports.runner import JobDirs

TICK_NS: Final = 100_000_000  # times of files have steps, of 10 ms at most: within one, a write does not show


def snapshot_directory(dirs: JobDirs, seq: int) -> Path:
    """Return the directory of a snapshot."""
    return dirs.snapshots / f"{seq:06d}"


def new_directory(dirs: JobDirs, seq: int) -> Path:
    """Make the directory of a snapshot, empty.

    Raises:
        OSError: The disk refuses it.
    """
    target = snapshot_directory(dirs, seq)
    remove_tree(target)
    target.mkdir(parents=True)
    return target


@frozen
class MadeCopy:
    """A copy of a file that was made while the program ran.

    Attributes:
        state: State of the file before it was copied.
        ctime_ns: Time of its last change of any kind, in ns, likewise.
        began_ns: When the copy began, by the clock of the file system.
        inode: Inode of the copy.
        was_mapped: Whether the file could be written to through memory then. Such writes do not show.
    """

    state: FileState
    ctime_ns: int
    began_ns: int
    inode: int
    was_mapped: bool

    def is_current(self, source: Path) -> bool:
        """Return whether nothing can have happened to the file since, provided that it is not mapped now.

        A file that was written to just before may have been written to again without another time.
        """
        if self.was_mapped:
            return False
        found = source.lstat()
        is_same = (FileState.of(found), found.st_ctime_ns) == (self.state, self.ctime_ns)
        return is_same and self.ctime_ns < self.began_ns - TICK_NS


def copy_ahead(
    path: str, made: dict[str, MadeCopy], *, dirs: JobDirs, seq: int, is_mapped: bool = False
) -> Iterator[int]:
    """Copy a file of a running program into the directory of a snapshot, and yield numbers of bytes.

    Args:
        path: Path of the file in the job's directory.
        made: Where the copy is noted, unless the file is gone, or no file.
        dirs: The job's directories.
        seq: Number of the snapshot.
        is_mapped: Whether the file may be written to through memory.

    Raises:
        OSError: The disk is full, or the file cannot be read.
    """
    source, placed = dirs.root / path, snapshot_directory(dirs, seq) / path
    made.pop(path, None)
    with suppress(FileNotFoundError):
        found = source.lstat()
        if stat.S_ISREG(found.st_mode):
            placed.parent.mkdir(parents=True, exist_ok=True)
            placed.unlink(missing_ok=True)
            with open_file(source) as reader, placed.open("xb") as writer:
                began = os.fstat(writer.fileno())
                yield from copy_steps(reader.fileno(), writer.fileno())
                _set_metadata(writer.fileno(), FileState.of(found))
            made[path] = MadeCopy(FileState.of(found), found.st_ctime_ns, began.st_mtime_ns, began.st_ino, is_mapped)


def link_file(source: Path, placed: Path) -> bool:
    """Give a file another name; return False if this file system, or this file, cannot be linked."""
    try:
        os.link(source, placed, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def copy_file(source: Path, target: Path, seen: FileState) -> int:
    """Copy a file within the kernel, and return the copy's inode. Where blocks can be shared, nothing is copied."""
    with open_file(source) as reader, target.open("xb") as writer:
        copy_data(reader.fileno(), writer.fileno())
        _set_metadata(writer.fileno(), seen)
        return os.fstat(writer.fileno()).st_ino


def _set_metadata(file: int, seen: FileState) -> None:
    os.utime(file, ns=(seen.mtime_ns, seen.mtime_ns))
    os.fchmod(file, stat.S_IMODE(seen.mode))
