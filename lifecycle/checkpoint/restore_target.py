"""A file that is being restored: what is already on the disk is reused, the rest is fetched, then the file appears.

The file is put together beside its final place, under a name that no other file has, and renamed into place once it is
verified. So each file appears complete or not at all.
"""

import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Final

from lifecycle.checkpoint.chunks import chunk_digests
from lifecycle.checkpoint.manifest import HOLE, MODE_BITS, FileEntry, digest_bytes
from lifecycle.checkpoint.reader import FileVerifier, PlacedExtent, placed_extents, stored_extents
from lifecycle.checkpoint.sparse import copy_data, data_ranges
from lifecycle.checkpoint.tree import open_file

READ_BYTES: Final = 1 << 20  # of a local file, at a time
OWNER_MAY_WRITE: Final = 0o600  # while it is put together


class RestoreTarget(FileVerifier):
    """A file that is being restored.

    Args:
        entry: The file, as its manifest describes it.
        path: Its final place.
    """

    def __init__(self, entry: FileEntry, path: Path) -> None:
        super().__init__(entry)
        self._path = path
        self._part = path.with_name(_part_name(path.name))
        self._base: Path | None = None
        self._stale_holes: list[PlacedExtent] = []
        self.missing: list[PlacedExtent] = list(stored_extents(entry))
        """Extents that have to be fetched."""

    @property
    def fetched_bytes(self) -> int:
        """Number of bytes that have to be fetched, or were."""
        return sum(placed.extent.length for placed in self.missing)

    def prepare(self, other: Path | None, taken: set[tuple[int, int]], check_interrupted: Callable[[], None]) -> None:
        """Find out which extents are already on the disk, and get the file ready to receive the others.

        Args:
            other: Second place where the file may be, besides its final one.
            taken: Device and inode of the files that have been reused under another path. Each is used once: two
                files must not become one that has two names.
            check_interrupted: Called before each extent; raises to give up.

        Raises:
            OSError: The disk cannot be read or written.
        """
        for base in (self._path, other):
            wrong = self._wrong_extents(base, check_interrupted) if base else None
            if wrong is None:
                continue
            stored = [placed for placed in wrong if placed.extent.pack != HOLE]
            if self._base is None or len(stored) < len(self.missing):
                self.missing, self._base = stored, base
                self._stale_holes = [placed for placed in wrong if placed.extent.pack == HOLE]
            if not stored:
                break
        self._make_part(taken)

    def receive(self, placed: PlacedExtent, content: memoryview) -> None:
        """Verify the content of an extent (see `FileVerifier.receive`) and write it.

        Raises:
            CorruptCheckpointError: It is not what was committed.
            OSError: The disk cannot be written.
        """
        super().receive(placed, content)
        with self._part.open("rb+") as file:
            file.seek(placed.start)
            file.write(content)

    def install(self) -> None:
        """Verify the file as a whole, and let it appear in its final place.

        Raises:
            CorruptCheckpointError: The extents are not the file.
            OSError: The disk cannot be written.
        """
        self.conclude()
        if self.entry.mtime_ns is not None:
            os.utime(self._part, ns=(self.entry.mtime_ns, self.entry.mtime_ns), follow_symlinks=False)
        self._part.chmod(self.entry.mode & MODE_BITS)
        self._part.replace(self._path)

    def _wrong_extents(self, base: Path, check_interrupted: Callable[[], None]) -> list[PlacedExtent] | None:
        """Return the extents that *base* does not hold; None if it is no file that can be read."""
        wrong = []
        try:
            file = open_file(base)
        except OSError:
            return None
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            for placed in placed_extents(self.entry):
                check_interrupted()
                if placed.extent.pack == HOLE and _is_hole(file, placed):
                    continue
                file.seek(placed.start)
                digests = bytearray()
                left = placed.extent.length
                while left and (content := file.read(min(left, READ_BYTES))):
                    digests += chunk_digests(memoryview(content), self.entry.chunk_bytes)
                    left -= len(content)
                if left or not self.accept_digests(placed, bytes(digests)):
                    wrong.append(placed)
        return wrong

    def _make_part(self, taken: set[tuple[int, int]]) -> None:
        """Create the file beside its final place, with the right extents of the base if there is one."""
        self._part.unlink(missing_ok=True)  # left by an earlier try; or a link, which must not be written through
        if self._base:
            found = self._base.lstat()
            inode = found.st_dev, found.st_ino
            is_whole = not (self.missing or self._stale_holes) and found.st_size == self.entry.size
            if found.st_nlink > 1 and (not is_whole or inode in taken):
                # Snapshots are hard links: writing through this name would change the other file as well.
                with open_file(self._base) as source, self._part.open("xb") as copy:
                    copy_data(source.fileno(), copy.fileno())
            else:
                self._base.replace(self._part)
                self._part.chmod(OWNER_MAY_WRITE)
                taken.add(inode)
        with self._part.open("ab") as file:
            file.truncate(self.entry.size)
        for placed in self._stale_holes:
            self._write_zeros(placed)

    def _write_zeros(self, placed: PlacedExtent) -> None:
        with self._part.open("rb+") as file:
            file.seek(placed.start)
            for left in range(placed.extent.length, 0, -READ_BYTES):
                file.write(bytes(min(left, READ_BYTES)))


def _is_hole(file: FileIO, placed: PlacedExtent) -> bool:
    """Return whether a hole of the file is a hole on the disk too, so that it need not be read."""
    end = placed.start + placed.extent.length
    ranges = data_ranges(file.fileno(), end, start=placed.start)
    return os.fstat(file.fileno()).st_size >= end and next(ranges, None) is None


def is_part(name: str) -> bool:
    """Return whether a file of that name is left over from a restore that did not finish."""
    return name.startswith(".holdfast-") and name.endswith(".part")


def _part_name(name: str) -> str:
    """Return the name of a file until it is complete: unlike that of any other file, however long *name* is."""
    return f".holdfast-{digest_bytes(os.fsencode(name))[-16:]}.part"
