"""Holes of sparse files: found without reading them, and kept by a copy (lseek(2), SEEK_DATA and SEEK_HOLE).

A file system that knows no holes says that everything is data.
"""

import errno
import os
from collections.abc import Iterator
from typing import Final

COPY_BYTES: Final = 1 << 20  # copied at a time where the kernel cannot do it
KERNEL_COPY_BYTES: Final = 1 << 30


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
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for begin, end in data_ranges(source, size):
        _copy_range(source, target, begin, end)


def _copy_range(source: int, target: int, begin: int, end: int) -> None:
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
