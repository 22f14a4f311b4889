"""The workload's console: stdout and stderr, in segments of equal length, on the node and in the bucket.

Segment N holds the bytes from N x SEGMENT_BYTES on. The newest segment grows and the others never change, so the
console can be followed from elsewhere while the workload runs, and takes no more room than KEPT segments however much
is written.
"""

import re
from pathlib import Path
from typing import Final

from lifecycle.errors import HoldfastError
from lifecycle.key_layout import JobKeys
from lifecycle.ports.runner import JobDirs
from lifecycle.ports.store import ObjectStore
from lifecycle.regular_files import read_regular
from lifecycle.structured_log import StructuredLogger

SEGMENT_BYTES: Final = 256 << 10
KEPT: Final = 32  # segments
TAIL_BYTES: Final = 4096
SEGMENT: Final = re.compile(r"([0-9]{6,15})\.txt")

log = StructuredLogger("holdfast.console")


def segment(number: int) -> str:
    """Return the name of a segment's file."""
    return f"{number:06d}.txt"


def segments(dirs: JobDirs) -> list[tuple[int, Path]]:
    """Return the segments on this node, oldest first."""
    if dirs.console.is_symlink():  # the program put it there: it is not the console
        return []
    try:
        found = [(SEGMENT.fullmatch(path.name), path) for path in dirs.console.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((int(match[1]), path) for match, path in found if match)


def tail(dirs: JobDirs) -> str:
    """Return the end of the console, TAIL_BYTES at most. Never fails."""
    try:
        newest = b"".join(read_regular(path, SEGMENT_BYTES) for _, path in segments(dirs)[-2:])
    except OSError:
        return ""
    return newest[-TAIL_BYTES:].decode(errors="replace").strip()


class ConsoleCopy:
    """The copy of one attempt's console in the bucket.

    Args:
        store: The bucket.
        keys: The job's keys.
        epoch: The attempt's number: it alone writes these keys, so no fence is needed.
        dirs: The job's directories on this node.
    """

    def __init__(self, store: ObjectStore, keys: JobKeys, *, epoch: int, dirs: JobDirs) -> None:
        self._store = store
        self._keys = keys
        self._epoch = epoch
        self._dirs = dirs
        self._shipped: dict[int, int] = {}

    def ship(self) -> None:
        """Store what is new. Never fails."""
        try:
            for number, path in segments(self._dirs):
                if path.lstat().st_size != self._shipped.get(number):
                    content = read_regular(path, SEGMENT_BYTES)
                    self._store.put(self._keys.console(self._epoch, number), content)
                    self._shipped[number] = len(content)
            self._drop_old()
        except (HoldfastError, OSError) as error:
            log.warning("console.not_stored", job=self._keys.job, error=error)

    def _drop_old(self) -> None:
        old = sorted(self._shipped)[:-KEPT]
        if old:
            self._store.delete([self._keys.console(self._epoch, number) for number in old])
            for number in old:
                del self._shipped[number]
