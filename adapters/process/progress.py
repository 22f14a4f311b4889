"""Progress of a workload, as its files and its output tell it. Nothing that it writes does harm."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lifecycle.attempt.console_segments import SEGMENT_BYTES, segments
from lifecycle.bounds import is_bounded
from lifecycle.ports.runner import JobDirs
from lifecycle.regular_files import open_regular, read_regular

MAX_FILE_BYTES: Final = 64 << 10  # of a file with progress
MAX_LINE_CHARS: Final = 1 << 16  # a longer line of output is searched for progress only at its end


class ProgressLines:
    """Progress found in the lines of a program's output.

    Args:
        dirs: The job's directories.
        pattern: Regular expression with a group `done` and optionally `total`.
    """

    def __init__(self, dirs: JobDirs, pattern: str) -> None:
        self._dirs = dirs
        self._pattern = re.compile(pattern)
        self._position = (0, 0)  # segment and offset of what was not read yet
        self._partial_line = ""
        self._found: tuple[int | None, int | None] = (None, None)

    def read(self) -> tuple[int | None, int | None]:
        """Read new output, and return the last progress found: steps done and total."""
        for index, path in segments(self._dirs):
            current, offset = self._position
            if index < current:
                continue
            with suppress(OSError), open_regular(path) as file:
                file.seek(offset if index == current else 0)
                new = file.read(SEGMENT_BYTES) or b""
                self._position = (index, file.tell())
                self._search(new.decode(errors="replace"))
        return self._found

    def _search(self, new: str) -> None:
        *lines, partial = re.split(r"[\r\n]", self._partial_line + new)
        self._partial_line = partial[-MAX_LINE_CHARS:]
        for line in reversed(lines):
            if found := self._pattern.search(line):
                groups = found.groupdict()
                self._found = number(groups.get("done")), number(groups.get("total"))
                return


def number(text: str | None) -> int | None:
    """Return the whole number that *text* is; None if it is none, or is out of bounds."""
    try:
        return whole(int(text or ""))
    except ValueError:
        return None


def read_progress(path: Path) -> dict[str, Any]:
    """Read progress in either form: a JSON object, or one or two whole numbers, done and total."""
    progress = read_json(path)
    if not progress:
        with suppress(OSError):
            words = read_regular(path, MAX_FILE_BYTES).decode(errors="replace").split()[:2]
            return dict(zip(("done", "total"), map(number, words), strict=False))
    return progress


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file that the workload wrote; empty if it is absent, malformed or no regular file."""
    try:
        value = json.loads(read_regular(path, MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def whole(value: object) -> int | None:
    """Return *value* if it is a whole number from -2^53 to 2^53; None otherwise."""
    return value if type(value) is int and is_bounded(value) else None
