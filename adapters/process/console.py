"""The workload's output on the disk. Only the standard library and fast imports, as in the process supervisor."""

import contextlib
import os
import sys

READ_BYTES = 1 << 16


class Console:
    """The end of the workload's output, in files of equal length."""

    def __init__(self, folder: str, segment_bytes: int, kept: int) -> None:
        self._folder = folder
        self._bytes = segment_bytes
        self._kept = kept
        self._number = self._length = 0
        self._file = -1

    def drain(self, output: int, *, reads: int = sys.maxsize) -> bool:
        """Store what can be read now; return False at the end. On a full disk, output is lost but read all the same.

        Args:
            output: Where to read.
            reads: Return after this many, so that a verbose program cannot keep the caller from its other duties.
        """
        for _ in range(reads):
            try:
                content = os.read(output, READ_BYTES)
            except BlockingIOError:
                return True
            if not content:
                return False
            with contextlib.suppress(OSError):
                self._write(content)
        return True

    def _write(self, content: bytes) -> None:
        while content:
            if self._file < 0:
                self._file = os.open(self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            room = self._bytes - self._length
            written = os.write(self._file, content[:room])
            content = content[written:]
            self._length += written
            if self._length >= self._bytes:
                os.close(self._file)
                self._file, self._length = -1, 0
                self._number += 1
                if self._number > self._kept:
                    os.unlink(self._path(self._number - self._kept - 1))  # noqa: PTH108 - pathlib takes long to import

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06d}.txt"
