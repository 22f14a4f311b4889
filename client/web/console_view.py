"""A workload's output, read from the bucket piece by piece.

A position in it is a text that a browser returns to continue from there.
"""

import codecs
import re
from collections.abc import Sequence
from typing import Final, Self

from attrs import frozen

from client.config.environment import Environment
from client.records.attempt_logs import LogObject, console_segments
from client.views.output import ESCAPES
from lifecycle.ports.store import Range

TAIL_BYTES: Final = 64 << 10  # of earlier output; `holdfast logs JOB --console` prints all of it
POSITION: Final = re.compile(r"(\d{1,9})-(\d{1,9})-(\d{1,9})")


@frozen(order=True)
class ConsolePosition:
    """A position in a job's output: attempt, segment, and bytes into the segment."""

    epoch: int = 0
    number: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a position in the form of `str`; return None for any other text."""
        found = POSITION.fullmatch(text)
        return cls(*map(int, found.groups())) if found else None


@frozen
class ConsolePart:
    """Output of one attempt, and the position after it."""

    epoch: int
    text: str
    end: ConsolePosition


def read_console(env: Environment, job: str, after: ConsolePosition | None) -> list[ConsolePart]:
    """Read the output after a position; if that is None, the last TAIL_BYTES.

    Raises:
        RetryableError: The bucket cannot be read.
        ConfigError: The bucket or its credentials are wrong.
    """
    segments = console_segments(env, job)
    start = _tail(segments) if after is None else after
    newest = segments[-1].epoch if segments else 0
    parts: list[ConsolePart] = []
    for one in segments:
        here = max(start, ConsolePosition(one.epoch, one.number))
        if (here.epoch, here.number) != (one.epoch, one.number) or here.offset >= one.size_bytes:
            continue
        body = env.store.get_range(Range(one.key, here.offset, one.size_bytes - here.offset)) or b""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text = decoder.decode(body, final=one.epoch < newest)
        pending = len(decoder.getstate()[0])  # first bytes of a character whose last ones are not there yet
        end = ConsolePosition(one.epoch, one.number, here.offset + len(body) - pending)
        parts.append(ConsolePart(one.epoch, clean(text), end))
    return parts


def _tail(segments: Sequence[LogObject]) -> ConsolePosition:
    """Return the position TAIL_BYTES before the end."""
    left = TAIL_BYTES
    for one in reversed(segments):
        if one.size_bytes >= left:
            return ConsolePosition(one.epoch, one.number, one.size_bytes - left)
        left -= one.size_bytes
    return ConsolePosition()


def clean(text: str) -> str:
    """Return *text* without terminal escapes; a line that was overwritten becomes a line of its own."""
    return ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
