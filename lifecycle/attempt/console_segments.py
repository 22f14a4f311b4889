"""What the workload writes to stdout and stderr: kept in segments of equal length, on the node and in the bucket.

Segment N holds bytes N x SEGMENT_BYTES and following; the newest grows, the others never change. So it can be followed
from elsewhere while the workload runs, and takes no more room than KEPT segments however much is written.
"""

import logging
import re
from pathlib import Path
from typing import Final

from lifecycle.errors import HoldfastError
from lifecycle.key_layout import JobKeys
from lifecycle.ports.runner import JobDirs
from lifecycle.ports.store import ObjectStore

SEGMENT_BYTES: Final = 256 << 10
KEPT: Final = 32
TAIL_BYTES: Final = 4096
SEGMENT: Final = re.compile(r"(\d{6,})\.txt")

log = logging.getLogger("holdfast.console")


def segment(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:06d}.txt"


def segments(dirs: JobDirs) -> list[tuple[int, Path]]:
    """The segments that there are on this node, oldest first."""
    try:
        found = [(SEGMENT.fullmatch(path.name), path) for path in dirs.console.iterdir()]
    except FileNotFoundError:
        return []
    return sorted((int(match[1]), path) for match, path in found if match)


def tail(dirs: JobDirs) -> str:
    """The end of it, TAIL_BYTES at most. Never fails."""
    try:
        newest = b"".join(path.read_bytes() for _, path in segments(dirs)[-2:])
    except OSError:
        return ""
    return newest[-TAIL_BYTES:].decode(errors="replace").strip()


class ConsoleCopy:
    """Brings one attempt's console to the bucket, bit by bit.

    Args:
        store: Where to.
        keys: The job's keys.
        epoch: Ours: one writer a key, so no fence is needed.
        dirs: Where the segments are.
    """

    def __init__(self, store: ObjectStore, keys: JobKeys, *, epoch: int, dirs: JobDirs) -> None:
        self._store = store
        self._keys = keys
        self._epoch = epoch
        self._dirs = dirs
        self._there: dict[int, int] = {}

    def ship(self) -> None:
        """Bring what is new. A courtesy: it never fails."""
        try:
            for number, path in segments(self._dirs):
                if path.stat().st_size != self._there.get(number):
                    content = path.read_bytes()
                    self._store.put(self._keys.console(self._epoch, number), content)
                    self._there[number] = len(content)
            self._drop_old()
        except (HoldfastError, OSError) as error:
            log.warning("%s: the workload's output was not stored: %s", self._keys.job, error)

    def _drop_old(self) -> None:
        old = sorted(self._there)[:-KEPT]
        if old:
            self._store.delete([self._keys.console(self._epoch, number) for number in old])
            for number in old:
                del self._there[number]
