"""The terminal: its width, and colour where it is wanted (https://no-color.org)."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from client.config.variables import refuses_color

Span = tuple[str, str]
"""A text without control characters, and its style."""

PLAIN, BOLD, DIM, RED, GREEN, YELLOW, CYAN = STYLES = "", "bold", "dim", "red", "green", "yellow", "cyan"
_CODES: Final[Mapping[str, str]] = dict(zip(STYLES, ("", "1", "2", "31", "32", "33", "36"), strict=True))


def width_of(stream: TextIO) -> int | None:
    """Return the width of the terminal that *stream* goes to, in characters; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def wants_color(stream: TextIO) -> bool:
    """Return whether to write colours to *stream*: it is a terminal that has them, and the user wants them."""
    return stream.isatty() and not refuses_color()


def styled(spans: Sequence[Span]) -> str:
    """Return *spans* as one line with the terminal's codes for their styles."""
    return "".join(f"\x1b[{_CODES[style]}m{text}\x1b[0m" if _CODES[style] and text else text for text, style in spans)


def plain(spans: Sequence[Span]) -> str:
    """Return *spans* as one line without styles."""
    return "".join(text for text, _ in spans).rstrip()


def write_line(spans: Sequence[Span], stream: TextIO | None = None) -> None:
    """Write a line to *stream* (None: stdout), in colour if it wants that."""
    out = stream or sys.stdout
    out.write(f"{styled(spans) if wants_color(out) else plain(spans)}\n")
