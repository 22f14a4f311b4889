"""Holes of sparse files: found without reading them, and kept by a copy (lseek(2), SEEK_DATA and SEEK_HOLE).

A file system that knows no holes says that everything is data.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

COPY_BYTES: Final = 1 << 20  # copied at a time where the kernel cannot do it
KERNEL_COPY_BYTES: Final = 256 << 20
FICLONE: Final = 0x40049409  # linux/fs.h
BLOCK_BYTES: Final = 4096


def data_ranges(file: int, size: int, *, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each range of the bytes *start* to *size* of an open file that may hold data.

    The offset of the descriptor is left anywhere.
    """
    end = start
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data up to the end
                return
            begin, end = end, size  # this file system cannot say
        if begin < size:
            yield begin, min(end, size)


def copy_data(source: int, target: int) -> None:
    """Copy an open file into another, an empty one, within the kernel if it can; holes stay holes.

    Raises:
        OSError: The disk is full, or refuses it.
    """
    for _ in copy_steps(source, target):
        pass


def copy_steps(source: int, target: int) -> Iterator[int]:
    """Do what `copy_data` does in steps, and yield the number of bytes of each.

    Raises:
        OSError: The disk is full, or refuses it.
    """
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for begin, end in data_ranges(source, size):
        yield from _copy_range(source, target, begin, end)


def free_bytes(directory: Path) -> int:
    """Return how many bytes may be written to the file system of *directory*."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def shares_blocks(directory: Path) -> bool:
    """Return whether copies on the file system of *directory* take no room (ioctl_ficlone(2))."""
    with TemporaryFile(dir=directory) as source, TemporaryFile(dir=directory) as target:
        source.write(bytes(BLOCK_BYTES))
        source.flush()
        try:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        except OSError:
            return False
        return True


def _copy_range(source: int, target: int, begin: int, end: int) -> Iterator[int]:
    while begin < end:
        try:
            count = os.copy_file_range(source, target, min(end - begin, KERNEL_COPY_BYTES), begin, begin)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            count = os.pwrite(target, os.pread(source, min(end - begin, COPY_BYTES), begin), begin)
        if not count:
            return  # it has become shorter meanwhile
        begin += count
        yield count
