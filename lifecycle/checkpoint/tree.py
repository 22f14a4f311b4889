"""Directory trees that a program may change: walked, made and removed without following a symbolic link.

The program owns its directories, and may put a link wherever a directory was. So each directory is opened relative to
its parent, as a directory and not as a link, and its entries are examined through that descriptor. What a link points
to is never read, written or removed. An entry that cannot be examined is an error: a directory that is passed
over in silence is lost work.
"""

import errno
import os
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that open a directory, and nothing that is a link."""
REGULAR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags that open a file to read it, and neither follow a link nor wait for the other end of a pipe."""
HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""The same for a directory that may not be readable."""
MAX_DEPTH: Final = 200  # of directories in one another; each takes a descriptor while it is walked
REMOVAL_DEPTH: Final = 64  # what lies deeper is moved up before it is removed
NOT_A_DIRECTORY: Final = frozenset({errno.ENOTDIR, errno.ELOOP})
OWNER_MAY: Final = stat.S_IRWXU


class LinkedDirectoryError(OSError):
    """One of the job's own directories has become a link, or something else that is no directory.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ELOOP, f"{path.name}/ is a link or a file, and was a directory", str(path))


def ensure_directory(path: Path) -> None:
    """Check that nothing but a directory is at *path*, if there is anything.

    Raises:
        LinkedDirectoryError: It is a link, or something else.
        OSError: It cannot be examined.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise LinkedDirectoryError(path)


def open_file(path: Path) -> FileIO:
    """Open a file to read it, unless it is a link; of a pipe, nothing is read.

    Raises:
        OSError: It cannot be opened.
    """
    return FileIO(os.open(path, REGULAR), "rb")


def walk(root: Path, area: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield *area*, a directory in *root*, and everything below it: path relative to *root*, and state.

    A directory comes before its entries; otherwise there is no order. What vanishes meanwhile is left out.

    Raises:
        LinkedDirectoryError: *area* is no directory.
        OSError: A directory cannot be listed, or is nested too deeply.
    """
    try:
        top = os.open(root / area, DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LinkedDirectoryError(root / area) if error.errno in NOT_A_DIRECTORY else error from None
    try:
        yield area, os.fstat(top)
        yield from _walk_below(root, top, area, 1)
    finally:
        os.close(top)


def _walk_below(root: Path, directory: int, path: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"nested more than {MAX_DEPTH} deep", str(root / path))
    names = []
    with _named(root / path), os.scandir(directory) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(found.st_mode):
                names.append(entry.name)
            yield f"{path}/{entry.name}", found
    for name in names:
        below = f"{path}/{name}"
        try:
            with _named(root / below):
                child = os.open(name, DIRECTORY, dir_fd=directory)
        except FileNotFoundError:
            continue
        try:
            yield from _walk_below(root, child, below, depth + 1)
        finally:
            os.close(child)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors name the whole path, and not only what is relative to a descriptor."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def remove_tree(path: Path) -> None:
    """Remove *path* and everything below it, however deep, even if its directories forbid it. Safe to repeat.

    Raises:
        OSError: Something remains.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with _named(path):
            _remove(parent, path.name)
    finally:
        os.close(parent)


def discard_tree(path: Path) -> None:
    """Remove *path* and everything below it, as far as that is possible. Never fails."""
    with suppress(OSError):
        remove_tree(path)


def _remove(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # POSIX has EPERM for a directory
        top = _open_to_remove(parent, name)
        try:
            while _empty(top, top, 0):
                pass
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=parent)


def _empty(directory: int, top: int, depth: int) -> bool:
    """Remove the entries of *directory*; return True if deep directories were moved to *top*, to be removed there."""
    has_moved = False
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
        elif depth < REMOVAL_DEPTH:
            child = _open_to_remove(directory, name)
            try:
                has_moved = _empty(child, top, depth + 1) or has_moved
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=directory)
        else:
            os.close(_open_to_remove(directory, name))  # only a writable directory can be moved
            os.rename(name, f".holdfast-deep-{os.urandom(8).hex()}", src_dir_fd=directory, dst_dir_fd=top)
            has_moved = True
    return has_moved


def _open_to_remove(parent: int, name: str) -> int:
    """Open a directory, and let its owner do everything in it."""
    handle = os.open(name, HANDLE, dir_fd=parent)
    try:
        permit_owner(handle)
        return os.open(name, DIRECTORY, dir_fd=parent)
    finally:
        os.close(handle)


def change_mode(handle: int, mode: int) -> None:
    """Set the permission bits of what is open; the descriptor may be one that was opened with O_PATH."""
    Path(f"/proc/self/fd/{handle}").chmod(stat.S_IMODE(mode))


def permit_owner(directory: int) -> None:
    """Let the owner list and change an open directory (see `change_mode`)."""
    mode = os.fstat(directory).st_mode
    if mode & OWNER_MAY != OWNER_MAY:
        change_mode(directory, mode | OWNER_MAY)


def make_directories(root: Path, path: str, *, replace: bool) -> None:
    """Make *path* below *root* a directory, and everything on the way. Existing ones become writable for their owner.

    Args:
        root: A directory; created if absent.
        path: Path below it.
        replace: Whether a link or a file in the place of a directory is removed.

    Raises:
        NotADirectoryError: A link or a file is in the way, and *replace* is false.
        OSError: The disk refuses it.
    """
    root.mkdir(parents=True, exist_ok=True)
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _named(root / path):
            for name in filter(None, path.split("/")):
                child = _open_or_make(current, name, replace=replace)
                os.close(current)
                current = child
    finally:
        os.close(current)


def is_directory(root: Path, path: str) -> bool:
    """Return whether *path* below *root* is a directory that is reached without a link."""
    current = -1
    try:
        current = os.open(root, HANDLE)
        for name in filter(None, path.split("/")):
            child = os.open(name, HANDLE, dir_fd=current)
            os.close(current)
            current = child
    except OSError:
        return False
    finally:
        if current >= 0:
            os.close(current)
    return True


def _open_or_make(parent: int, name: str, *, replace: bool) -> int:
    try:
        child = os.open(name, HANDLE, dir_fd=parent)
    except OSError as error:
        if error.errno in NOT_A_DIRECTORY and replace:
            os.unlink(name, dir_fd=parent)
        elif error.errno != errno.ENOENT:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        child = os.open(name, HANDLE, dir_fd=parent)
    permit_owner(child)
    return child


def move_tree(source: Path, target: Path) -> None:
    """Move a directory within a file system, and keep its permissions.

    Raises:
        LinkedDirectoryError: *source* is a link, or no directory.
        FileNotFoundError: There is no *source*.
        OSError: It cannot be moved.
    """
    ensure_directory(source)
    try:
        source.rename(target)
    except PermissionError:  # moving a directory changes its `..`, for which it has to be writable
        handle = os.open(source, HANDLE)
        try:
            mode = os.fstat(handle).st_mode
            permit_owner(handle)
            source.rename(target)
            change_mode(handle, mode)
        finally:
            os.close(handle)


def prune(root: Path, area: str, *, entries: AbstractSet[str], directories: AbstractSet[str]) -> None:
    """Remove everything below *area*, a directory in *root*, that is not wanted. Safe to repeat.

    Args:
        root: Directory that all paths are relative to.
        area: A real directory.
        entries: Paths of the files and links to keep.
        directories: Paths of the directories to keep. A directory under any other path is removed as a whole.

    Raises:
        OSError: Something cannot be examined or removed.
    """
    try:
        top = os.open(root / area, DIRECTORY)
    except FileNotFoundError:
        return
    try:
        with _named(root / area):
            _prune_below(top, area, entries, directories)
    finally:
        os.close(top)


def _prune_below(directory: int, path: str, entries: AbstractSet[str], directories: AbstractSet[str]) -> None:
    permit_owner(directory)
    with os.scandir(directory) as listed:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listed]
    for name, is_directory in found:
        below = f"{path}/{name}"
        if not is_directory:
            if below not in entries:
                os.unlink(name, dir_fd=directory)
        elif below not in directories:
            _remove(directory, name)
        else:
            child = _open_to_remove(directory, name)
            try:
                _prune_below(child, below, entries, directories)
            finally:
                os.close(child)
