"""Folders and files that only their owner can read, under any umask: jobs' data may be confidential."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def make_private_folder(path: Path) -> None:
    """Create a folder, and those above it that are missing. Safe to repeat, also by several processes at once.

    Raises:
        FileExistsError: There is something else.
        OSError: It cannot be created.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_private_folder(path.parent)
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        with suppress(FileNotFoundError):  # another process has removed it already
            path.chmod(FOLDER_MODE)  # the umask may have taken more


def make_private(path: Path) -> None:
    """Deny others access to a folder or file that exists already. Nothing happens if that is not permitted."""
    mode = FOLDER_MODE if path.is_dir() else FILE_MODE
    with suppress(OSError):
        if path.stat().st_mode & 0o777 & ~mode:
            path.chmod(mode)


def open_private(path: str, flags: int) -> int:
    """Open a file as an opener of `open`; a new one is private."""
    is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
    descriptor = os.open(path, flags, FILE_MODE)
    if is_new:
        os.fchmod(descriptor, FILE_MODE)  # the umask may have taken more
    return descriptor


@contextmanager
def private_umask() -> Iterator[None]:
    """Make everything private that this process and its children create in the context."""
    before = os.umask(0o777 & ~FOLDER_MODE)
    try:
        yield
    finally:
        os.umask(before)
