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
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from attrs import define, field

from lifecycle.checkpoint.links import portable_target, resolved_inside
from lifecycle.checkpoint.manifest import (
    AREAS,
    MODE_BITS,
    DirectoryEntry,
    HardLinkEntry,
    Quality,
    SymlinkEntry,
    parents_of,
    paths_of,
)
from lifecycle.checkpoint.patterns import compiled
from lifecycle.checkpoint.restore_target import is_part
from lifecycle.checkpoint.snapshot import Snapshot, SnapshotFile
from lifecycle.checkpoint.sparse import copy_data
from lifecycle.checkpoint.tree import discard_tree, ensure_directory, move_tree, open_file, remove_tree, walk
from lifecycle.ports.runner import Announced, JobDirs, Workload

EVERYTHING: Final = ("**",)


class FileState(NamedTuple):
    """What is compared to find out whether a file or a link has changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int


Scan = Mapping[str, FileState]
"""State of a workload's files and links, by path in the job's directory."""


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
    checkpoint = dirs.checkpoint.name
    try:
        move_tree(announced.path, target / checkpoint)
        moved = _survey(target, state=EVERYTHING)
        # Growing files last: they may be ahead of the state (a resumed program can truncate them), but never behind it.
        live = _survey(dirs.root, growing=workload.growing) if workload.growing else _Survey()
        is_state = compiled(workload.checkpoint).fullmatch
        roots = ((announced.path, checkpoint), (dirs.root, ""))
        taken = _Taken(target, roots)
        taken.add_moved({path: found for path, found in moved.state.items() if is_state(path)})
        taken.add_growing({path: found for path, found in live.growing.items() if path not in moved.state}, dirs)
        wanted = (*workload.checkpoint, *workload.growing)
        directories = {**live.directories, **moved.directories}
        return taken.snapshot(
            seq,
            announced.step,
            Quality.ANNOUNCED,
            directories=directories,
            patterns=wanted,
            skipped=(*moved.special, *live.special),
        )
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
    taken = _Taken(target, ((dirs.root, ""),))
    taken.add_moved(moved.state)
    skipped = (*moved.special, *taken.links_out_of(dirs.output.name))
    return taken.snapshot(
        seq, step, Quality.EXITED, directories=moved.directories, patterns=EVERYTHING, skipped=skipped, is_result=True
    )


def scan(dirs: JobDirs, workload: Workload) -> Scan:
    """Return the state of a workload that announces nothing, as it is now.

    Raises:
        OSError: A directory cannot be listed.
    """
    return _survey(dirs.root, state=workload.checkpoint, growing=workload.growing).state


def capture_files(
    seen: Scan,
    workload: Workload,
    quality: Quality,
    *,
    seq: int,
    step: int | None,
    dirs: JobDirs,
    in_place: set[str],
) -> Snapshot | None:
    """Capture the state of a workload that announces nothing, by linking or copying, and the growing files.

    Args:
        seen: Its state files, as they have been for a while.
        workload: Its patterns.
        quality: What the caller knows about the program: that its files were quiet, or that it has ended.
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
    taken = _Taken(target, ((dirs.root, ""),))
    try:
        taken.add_placed(seen, dirs, in_place)
        # A growing file may be ahead of the state, but never behind it: its length is taken after the state.
        now = _survey(dirs.root, state=workload.checkpoint, growing=workload.growing)
        if not seen or now.state != seen:
            discard_tree(target)
            return None
        taken.add_growing(now.growing, dirs)
    except FileNotFoundError:  # removed by the program since *seen*
        discard_tree(target)
        return None
    except OSError:
        discard_tree(target)
        raise
    wanted = (*workload.checkpoint, *workload.growing)
    return taken.snapshot(seq, step, quality, directories=now.directories, patterns=wanted, skipped=now.special)


@define
class _Survey:
    """What there is in a directory that is laid out like the job's, by path."""

    state: dict[str, FileState] = field(factory=dict)
    growing: dict[str, FileState] = field(factory=dict)
    directories: dict[str, FileState] = field(factory=dict)
    special: list[str] = field(factory=list)


def _survey(root: Path, *, state: tuple[str, ...] = (), growing: tuple[str, ...] = ()) -> _Survey:
    """Examine all directories, and everything else that matches the patterns *growing* or, else, *state*."""
    found, is_state, is_growing = _Survey(), compiled(state).fullmatch, compiled(growing).fullmatch
    for area in sorted(AREAS):
        for path, seen in walk(root, area):
            if is_part(path.rpartition("/")[2]):  # ours, left by a broken-off restore: no state of the program
                continue
            kind = stat.S_IFMT(seen.st_mode)
            now = FileState(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_mode)
            if kind == stat.S_IFDIR:
                found.directories[path] = now
                continue
            into = found.growing if growing and is_growing(path) else found.state if is_state(path) else None
            if into is None:
                continue
            if kind in {stat.S_IFREG, stat.S_IFLNK}:
                into[path] = now
            else:
                found.special.append(path)
    return found


@define
class _Taken:
    """A snapshot in the making.

    Attributes:
        target: Its directory.
        roots: Directories that absolute links may lead to, and the path of each in the job's directory.
    """

    target: Path
    roots: Sequence[tuple[Path, str]]
    _files: list[SnapshotFile] = field(factory=list, init=False)
    _symlinks: list[SymlinkEntry] = field(factory=list, init=False)
    _hard_links: list[HardLinkEntry] = field(factory=list, init=False)

    def add_moved(self, found: Scan) -> None:
        """Add what is in the snapshot's directory already."""
        first_names: dict[tuple[int, int], str] = {}
        for path, seen in sorted(found.items()):
            if stat.S_ISLNK(seen.mode):
                self._add_symlink(path, seen, os.readlink(self.target / path))  # noqa: PTH115 - Path would change the text
            elif not self._add_hard_link(path, seen, first_names):
                self._add_file(path, seen, seen.inode)

    def add_placed(self, found: Scan, dirs: JobDirs, in_place: set[str]) -> None:
        """Add files of the job by linking or, if they are *in_place*, by copying."""
        first_names: dict[tuple[int, int], str] = {}
        for path, seen in sorted(found.items()):
            if stat.S_ISLNK(seen.mode):
                self._place_symlink(path, seen, dirs)
            elif self._add_hard_link(path, seen, first_names):
                _link(self.target / self._hard_links[-1].target, self._room_for(path))
            elif path in in_place or not _link(dirs.root / path, self._room_for(path)):
                self._add_file(path, seen, _copy(dirs.root / path, self._room_for(path), seen))
            else:
                self._add_file(path, seen, seen.inode)

    def add_growing(self, found: Scan, dirs: JobDirs) -> None:
        """Add growing files of the job, each with the length that it had when it was examined."""
        first_names: dict[tuple[int, int], str] = {}
        for path, seen in sorted(found.items()):
            source, placed = dirs.root / path, self._room_for(path)
            with suppress(FileNotFoundError):
                if stat.S_ISLNK(seen.mode):
                    self._place_symlink(path, seen, dirs)
                    continue
                if not _link(source, placed):
                    _copy(source, placed, seen)
                if not self._add_hard_link(path, seen, first_names):
                    self._add_file(path, seen, None, grows=True)

    def links_out_of(self, area: str) -> Iterator[str]:
        """Yield the symbolic links that neither publishing nor a download can follow, with their targets."""
        for link in self._symlinks:
            if resolved_inside(link.path, link.target, {area}) is None:
                yield f"{link.path} -> {link.target}"

    def snapshot(
        self,
        seq: int,
        step: int | None,
        quality: Quality,
        *,
        directories: Scan,
        patterns: tuple[str, ...],
        skipped: Sequence[str],
        is_result: bool = False,
    ) -> Snapshot:
        """Return the snapshot, with those of *directories* that match *patterns* or contain something in it."""
        leaves = paths_of(self._files, self._symlinks, self._hard_links)
        is_wanted = compiled(patterns).fullmatch
        wanted = {path for path in directories if is_wanted(path)}
        for path in (*leaves, *wanted):
            for parent in parents_of(path):
                if parent in wanted:
                    break
                wanted.add(parent)
        return Snapshot(
            seq,
            step,
            self.target,
            tuple(sorted(self._files, key=lambda file: file.path)),
            directories=tuple(
                DirectoryEntry(path, seen.mode & MODE_BITS, seen.mtime_ns)
                for path, seen in sorted(directories.items())
                if path in wanted
            ),
            symlinks=tuple(sorted(self._symlinks, key=lambda entry: entry.path)),
            hard_links=tuple(sorted(self._hard_links, key=lambda entry: entry.path)),
            quality=quality,
            skipped=tuple(skipped),
            is_last=is_result,
            is_result=is_result,
        )

    def _add_file(self, path: str, seen: FileState, inode: int | None, *, grows: bool = False) -> None:
        source = self.target / path
        self._files.append(SnapshotFile(path, source, seen.size, seen.mode, seen.mtime_ns, inode, grows))

    def _add_symlink(self, path: str, seen: FileState, target: str) -> str:
        text = portable_target(target, path, self.roots)
        self._symlinks.append(SymlinkEntry(path, text, seen.mtime_ns))
        return text

    def _place_symlink(self, path: str, seen: FileState, dirs: JobDirs) -> None:
        text = self._add_symlink(path, seen, os.readlink(dirs.root / path))  # noqa: PTH115 - see above
        os.symlink(text, self._room_for(path))  # noqa: PTH211

    def _add_hard_link(self, path: str, seen: FileState, first_names: dict[tuple[int, int], str]) -> bool:
        """Note that a file is in the snapshot under another name already, if it is; the link count proves nothing."""
        first = first_names.setdefault((seen.device, seen.inode), path)
        if first != path:
            self._hard_links.append(HardLinkEntry(path, first))
        return first != path

    def _room_for(self, path: str) -> Path:
        placed = self.target / path
        placed.parent.mkdir(parents=True, exist_ok=True)
        return placed


def _new_directory(dirs: JobDirs, seq: int) -> Path:
    target = dirs.snapshots / f"{seq:06d}"
    remove_tree(target)
    target.mkdir(parents=True)
    return target


def _link(source: Path, placed: Path) -> bool:
    """Give a file another name; return False if this file system, or this file, cannot be linked."""
    try:
        os.link(source, placed, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path, seen: FileState) -> int:
    """Copy a file within the kernel, and return the copy's inode. Where blocks can be shared, nothing is copied."""
    with open_file(source) as reader, target.open("wb") as writer:
        copy_data(reader.fileno(), writer.fileno())
        os.utime(writer.fileno(), ns=(seen.mtime_ns, seen.mtime_ns))
        os.fchmod(writer.fileno(), stat.S_IMODE(seen.mode))
        return os.fstat(writer.fileno()).st_ino
