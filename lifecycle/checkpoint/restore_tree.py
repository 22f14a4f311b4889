"""Restoring what is not a file: directories, links, and the modes and times of directories.

Files come between `make_room` and `finish`: directories permit everything until all that is in them is there, and get
their modes and times last.
"""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from lifecycle.checkpoint.links import resolved_inside
from lifecycle.checkpoint.manifest import AREAS, MODE_BITS, DirectoryEntry, Manifest
from lifecycle.checkpoint.tree import DIRECTORY, HANDLE, change_mode, make_directories, prune


def make_room(root: Path, manifest: Manifest) -> None:
    """Make the directories of *manifest*, and remove everything else from the job's areas; no link is followed.

    Files and links that the manifest names are kept, because they may be reused.

    Raises:
        OSError: The disk refuses it.
    """
    leaves, folders = manifest.leaves, manifest.folders
    for area in sorted(AREAS):
        make_directories(root, area, replace=True)
        prune(root, area, entries=leaves, directories=folders)
    for folder in sorted(folders):
        make_directories(root, folder, replace=True)


def finish(root: Path, manifest: Manifest, *, inside: bool) -> list[str]:
    """Make the links of *manifest*, once its files are there, and finish its directories. Safe to repeat.

    Args:
        root: Directory that all paths are relative to.
        manifest: What is restored.
        inside: Whether symbolic links that lead out of the tree are left out.

    Returns:
        The links that were left out, each with its target.

    Raises:
        OSError: The disk refuses it.
    """
    for hard in manifest.hard_links:
        _make_hard_link(root / hard.target, root / hard.path)
    omitted, areas = [], manifest.areas
    for link in manifest.symlinks:
        if inside and resolved_inside(link.path, link.target, areas) is None:
            omitted.append(f"{link.path} -> {link.target}")
            continue
        place = root / link.path
        if not (place.is_symlink() and os.readlink(place) == link.target):  # noqa: PTH115 - see below
            _replace(place, partial(_make_symlink, link.target))
        os.utime(place, ns=(link.mtime_ns, link.mtime_ns), follow_symlinks=False)
    for directory in sorted(manifest.directories, key=lambda entry: entry.path, reverse=True):  # the deepest first
        _finish_directory(root, directory)
    return omitted


def _make_symlink(target: str, new: Path) -> None:
    os.symlink(target, new)  # noqa: PTH211 - Path would change the text: it drops a `./`


def _make_hard_link(target: Path, place: Path) -> None:
    with suppress(FileNotFoundError):
        found = place.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and place.samefile(target):
            return
    _replace(place, partial(_link_or_copy, target))


def _link_or_copy(target: Path, new: Path) -> None:
    try:
        os.link(target, new, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(target, new, follow_symlinks=False)


def _replace(place: Path, make: Callable[[Path], None]) -> None:
    """Let *make* create something under another name, and rename it to *place*."""
    new = place.with_name(f".holdfast-{os.urandom(8).hex()}.part")
    try:
        make(new)
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)  # rename(2) leaves it if both names are the same file already


def _finish_directory(root: Path, entry: DirectoryEntry) -> None:
    handle = os.open(root / entry.path, HANDLE)
    try:
        opened = os.open(".", DIRECTORY, dir_fd=handle)
        try:
            os.utime(opened, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(opened)
        change_mode(handle, entry.mode & MODE_BITS)
    finally:
        os.close(handle)
