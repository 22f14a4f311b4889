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
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import define, field

from lifecycle.checkpoint.copies import MadeCopy, copy_file, link_file, new_directory, snapshot_directory
from lifecycle.checkpoint.links import portable_target, resolved_inside
from lifecycle.checkpoint.manifest import (
    MODE_BITS,
    DirectoryEntry,
    HardLinkEntry,
    Quality,
    SymlinkEntry,
    parents_of,
    paths_of,
)
from lifecycle.checkpoint.patterns import compiled
from lifecycle.checkpoint.snapshot import Snapshot, SnapshotFile
from lifecycle.checkpoint.survey import FileState, Scan, Survey, survey
from lifecycle.checkpoint.tree import discard_tree, ensure_directory, move_tree
from lifecycle.ports.runner import Announced, JobDirs, Workload

EVERYTHING: Final = ("**",)


def ensure_directories(dirs: JobDirs) -> None:
    """Check that the job's directories are still directories: a program may have put a link where one was.

    Raises:
        LinkedDirectoryError: One of them is a link, or a file. What it points to was not touched.
    """
    for directory in (dirs.input, dirs.checkpoint, dirs.output, dirs.console):
        ensure_directory(directory)


def capture_announced(
    announced: Announced,
    workload: Workload,
    *,
    seq: int,
    dirs: JobDirs,
    in_place: AbstractSet[str] = frozenset(),
) -> Snapshot:
    """Capture an announced checkpoint by moving it, together with the growing files.

    Args:
        announced: The checkpoint.
        workload: Its patterns.
        seq: Number of the snapshot.
        dirs: The job's directories.
        in_place: Paths of growing files whose known part changes: they are copied as they are now.

    Raises:
        OSError: It cannot be moved, or not all of it can be examined.
    """
    target = new_directory(dirs, seq)
    checkpoint = dirs.checkpoint.name
    try:
        move_tree(announced.path, target / checkpoint)
        moved = survey(target, state=EVERYTHING)
        # Growing files last: they may be ahead of the state (a resumed program can truncate them), but never behind it.
        live = survey(dirs.root, growing=workload.growing) if workload.growing else Survey()
        is_state = compiled(workload.checkpoint).fullmatch
        roots = ((announced.path, checkpoint), (dirs.root, ""))
        taken = _Taken(target, roots)
        taken.add_moved({path: found for path, found in moved.state.items() if is_state(path)})
        growing = {path: found for path, found in live.growing.items() if path not in moved.state}
        taken.add_growing({path: found for path, found in growing.items() if path not in in_place}, dirs)
        rewritten = {path: found for path, found in growing.items() if path in in_place}
        taken.add_placed(rewritten, dirs, lambda *_: True)
        wanted = (*workload.checkpoint, *workload.growing)
        directories = {**live.directories, **moved.directories}
        return taken.snapshot(
            seq,
            announced.step,
            Quality.ANNOUNCED,
            directories=directories,
            patterns=wanted,
            skipped=(*moved.special, *live.special),
            in_place=in_place,
        )
    except OSError:
        discard_tree(target)
        raise


def capture_output(*, seq: int, step: int | None, dirs: JobDirs) -> Snapshot:
    """Capture the outputs of a workload that has ended, by moving them.

    Raises:
        OSError: They cannot be moved, or not all of them can be examined.
    """
    target = new_directory(dirs, seq)
    with suppress(FileNotFoundError):  # a program may remove the folder: then it has no outputs
        move_tree(dirs.output, target / dirs.output.name)
    moved = survey(target, state=EVERYTHING)
    taken = _Taken(target, ((dirs.root, ""),))
    taken.add_moved(moved.state)
    skipped = (*moved.special, *taken.links_out_of(dirs.output.name))
    return taken.snapshot(
        seq, step, Quality.EXITED, directories=moved.directories, patterns=EVERYTHING, skipped=skipped, is_result=True
    )


def capture_files(
    seen: Scan,
    workload: Workload,
    quality: Quality,
    *,
    seq: int,
    step: int | None,
    dirs: JobDirs,
    in_place: AbstractSet[str],
) -> Snapshot | None:
    """Capture the state of a workload that announces nothing, by linking or copying, and the growing files.

    Args:
        seen: Its state files, as they have been for a while.
        workload: Its patterns.
        quality: What the caller knows about the program: that its files were quiet, or that it has ended.
        seq: Number of the snapshot.
        step: Number of steps done; None if unknown.
        dirs: The job's directories.
        in_place: Paths of files that are known to be written to in place. They are copied, unless the program has
            ended.

    Returns:
        The snapshot; None if files have changed since *seen*, or there are none.

    Raises:
        OSError: The disk is full, or a file cannot be read.
    """
    target = new_directory(dirs, seq)
    is_in_place = compiled(workload.in_place).fullmatch
    may_change = quality is Quality.QUIET
    try:
        taken = _Taken(target, ((dirs.root, ""),))
        taken.add_placed(seen, dirs, lambda path, _: may_change and (path in in_place or is_in_place(path) is not None))
        # A growing file may be ahead of the state, but never behind it: its length is taken after the state.
        now = survey(dirs.root, state=workload.checkpoint, growing=workload.growing, in_place=in_place)
        if not seen or now.state != seen:
            discard_tree(target)
            return None
        return taken.completed(now, workload, quality, seq=seq, step=step, dirs=dirs, in_place=in_place)
    except FileNotFoundError:  # removed by the program since *seen*
        discard_tree(target)
        return None
    except OSError:
        discard_tree(target)
        raise


def capture_frozen(
    workload: Workload,
    *,
    seq: int,
    step: int | None,
    dirs: JobDirs,
    in_place: AbstractSet[str],
    copies: Callable[[str, FileState], bool],
    made: Mapping[str, MadeCopy],
) -> Snapshot | None:
    """Capture the state of a workload whose processes are stopped, in the directory that `new_directory` has made.

    Args:
        workload: Its patterns.
        seq: Number of the snapshot.
        step: Number of steps done; None if unknown.
        dirs: The job's directories.
        in_place: Paths of files that are known to be written to in place.
        copies: Decides by path and state which files are copied, because they may change as soon as it runs again.
        made: Copies of files that were made before, and are used if the file is still the same.

    Returns:
        The snapshot; None if there are no files.

    Raises:
        OSError: The disk is full, or a file cannot be read.
    """
    now = survey(dirs.root, state=workload.checkpoint, growing=workload.growing, in_place=in_place)
    taken = _Taken(snapshot_directory(dirs, seq), ((dirs.root, ""),), made)
    taken.add_placed(now.state, dirs, copies)
    taken.drop_unused()
    if not now.state:
        return None
    return taken.completed(now, workload, Quality.FROZEN, seq=seq, step=step, dirs=dirs, in_place=in_place)


@define
class _Taken:
    """A snapshot in the making.

    Attributes:
        target: Its directory.
        roots: Directories that absolute links may lead to, and the path of each in the job's directory.
        made: Copies that are in it already.
    """

    target: Path
    roots: Sequence[tuple[Path, str]]
    made: Mapping[str, MadeCopy] = field(factory=dict)
    _files: list[SnapshotFile] = field(factory=list, init=False)
    _symlinks: list[SymlinkEntry] = field(factory=list, init=False)
    _hard_links: list[HardLinkEntry] = field(factory=list, init=False)

    def add_moved(self, found: Scan) -> None:
        """Add what is in the snapshot's directory already."""
        first_names: dict[tuple[int, int], str] = {}
        for path, seen in sorted(found.items()):
            if stat.S_ISLNK(seen.mode):
                self._add_symlink(path, seen, os.readlink(self.target / path))  # noqa: PTH115 - Path would change the text
            elif not self._add_hardlink(path, seen, first_names):
                self._add_file(path, seen, seen.inode)

    def add_placed(self, found: Scan, dirs: JobDirs, copies: Callable[[str, FileState], bool]) -> None:
        """Add files of the job by linking or, if *copies* says so, by copying."""
        first_names: dict[tuple[int, int], str] = {}
        for path, seen in sorted(found.items()):
            source = dirs.root / path
            if stat.S_ISLNK(seen.mode):
                self._place_symlink(path, seen, dirs)
            elif self._add_hardlink(path, seen, first_names):
                placed = self._room_for(path)
                placed.unlink(missing_ok=True)
                link_file(self.target / self._hard_links[-1].target, placed)
            else:
                self._add_file(path, seen, self._place(source, path, seen, must_copy=copies(path, seen)))

    def _place(self, source: Path, path: str, seen: FileState, *, must_copy: bool) -> int:
        """Put a file into the snapshot, and return its inode there."""
        made, placed = self.made.get(path), self._room_for(path)
        if made and made.is_current(source):
            return made.inode
        placed.unlink(missing_ok=True)  # of an earlier try; it may be a link to the program's own file
        if not must_copy and link_file(source, placed):
            return seen.inode
        return copy_file(source, placed, seen)

    def drop_unused(self) -> None:
        """Remove copies of files that have vanished since."""
        used = {file.path for file in self._files} | {link.path for link in self._hard_links}
        for path in self.made.keys() - used:
            (self.target / path).unlink(missing_ok=True)

    def completed(
        self,
        now: Survey,
        workload: Workload,
        quality: Quality,
        *,
        seq: int,
        step: int | None,
        dirs: JobDirs,
        in_place: AbstractSet[str],
    ) -> Snapshot:
        """Add the growing files, and return the snapshot."""
        self.add_growing(now.growing, dirs)
        return self.snapshot(
            seq,
            step,
            quality,
            directories=now.directories,
            patterns=(*workload.checkpoint, *workload.growing),
            skipped=now.special,
            in_place=in_place,
        )

    def add_growing(self, found: Scan, dirs: JobDirs) -> None:
        """Add growing files of the job, each with the length that it had when it was examined."""
        first_names: dict[tuple[int, int], str] = {}
        for path, seen in sorted(found.items()):
            source, placed = dirs.root / path, self._room_for(path)
            with suppress(FileNotFoundError):
                if stat.S_ISLNK(seen.mode):
                    self._place_symlink(path, seen, dirs)
                    continue
                if not link_file(source, placed):
                    copy_file(source, placed, seen)
                if not self._add_hardlink(path, seen, first_names):
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
        in_place: AbstractSet[str] = frozenset(),
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
            in_place=tuple(sorted(file.path for file in self._files if file.path in in_place)),
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

    def _add_hardlink(self, path: str, seen: FileState, first_names: dict[tuple[int, int], str]) -> bool:
        """Note that a file is in the snapshot under another name already, if it is; the link count proves nothing."""
        first = first_names.setdefault((seen.device, seen.inode), path)
        if first != path:
            self._hard_links.append(HardLinkEntry(path, first))
        return first != path

    def _room_for(self, path: str) -> Path:
        placed = self.target / path
        placed.parent.mkdir(parents=True, exist_ok=True)
        return placed
