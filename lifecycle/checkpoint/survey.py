"""Scans of the job's directories: what there is, and what it is compared by."""

import os
import stat
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from attrs import define, field

from lifecycle.checkpoint.manifest import AREAS
from lifecycle.checkpoint.patterns import compiled
from lifecycle.checkpoint.restore_target import is_part
from lifecycle.checkpoint.tree import walk
from lifecycle.ports.runner import JobDirs, Workload


class FileState(NamedTuple):
    """Facts that are compared to find out whether a file or a link has changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileState":
        """Return the state that `stat` has found."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)


Scan = Mapping[str, FileState]
"""State of a workload's files and links, by path in the job's directory."""


@define
class Survey:
    """Contents of a directory that is laid out like the job's, by path."""

    state: dict[str, FileState] = field(factory=dict)
    growing: dict[str, FileState] = field(factory=dict)
    directories: dict[str, FileState] = field(factory=dict)
    special: list[str] = field(factory=list)


def survey(
    root: Path,
    *,
    state: tuple[str, ...] = (),
    growing: tuple[str, ...] = (),
    in_place: AbstractSet[str] = frozenset(),
) -> Survey:
    """Examine all directories, and everything else that matches the patterns *growing* or, else, *state*.

    Files *in_place* do not only grow, even if they match *growing*: they are part of the state.
    """
    found, is_state, is_growing = Survey(), compiled(state).fullmatch, compiled(growing).fullmatch
    for area in sorted(AREAS):
        for path, seen in walk(root, area):
            if is_part(path.rpartition("/")[2]):  # ours, left by a broken-off restore: no state of the program
                continue
            kind = stat.S_IFMT(seen.st_mode)
            now = FileState.of(seen)
            if kind == stat.S_IFDIR:
                found.directories[path] = now
                continue
            grows = bool(growing) and is_growing(path) is not None
            if not grows and not is_state(path):
                continue
            into = found.growing if grows and path not in in_place else found.state
            if kind in {stat.S_IFREG, stat.S_IFLNK}:
                into[path] = now
            else:
                found.special.append(path)
    return found


def scan(dirs: JobDirs, workload: Workload, in_place: AbstractSet[str] = frozenset()) -> Scan:
    """Return the state of a workload that announces nothing, as it is now.

    Args:
        dirs: The job's directories.
        workload: Its patterns.
        in_place: Paths of files that do not only grow, even if a pattern says so.

    Raises:
        OSError: A directory cannot be listed.
    """
    return survey(dirs.root, state=workload.checkpoint, growing=workload.growing, in_place=in_place).state
