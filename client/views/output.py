"""Printing for people: text of other origin, such as a job's output, must not steer their terminal.

Every command prints with `say` and `complain`; a test finds bare calls of `print`.
"""

import io
import re
import sys
from typing import Final, TextIO

from client.views.text import printable

ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""Escape sequences of terminals (ECMA-48): of the kinds CSI and OSC, and short ones."""

_QUIET: Final[list[bool]] = []


def say(text: str = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print lines, without control characters, on *file*; None: stdout."""
    print("\n".join(map(printable, text.split("\n"))), file=file, flush=flush)


def complain(text: str) -> None:
    """Print a line on stderr that begins with the program's name, without control characters."""
    print(f"holdfast: {printable(text)}", file=sys.stderr)


def note(text: str) -> None:
    """Print a line on stderr as `complain` does, unless the user wants results and errors only."""
    if not is_quiet():
        complain(text)


def be_quiet() -> None:
    """Print results and errors only from now on."""
    _QUIET.append(True)


def is_quiet() -> bool:
    """Return whether to print results and errors only."""
    return bool(_QUIET)


def plain_output(text: str) -> str:
    """Return a program's output without escape sequences and control characters; lines and tabs remain."""
    lines = ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def survive_any_encoding() -> None:
    """Show letters that a stream's encoding lacks as escapes, instead of failing: names of files may have any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
