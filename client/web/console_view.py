"""What the workload writes, read from the bucket bit by bit: a place in it is a text that a browser can hand back."""

import codecs
import re
from collections.abc import Sequence
from typing import Final, Self

from attrs import frozen

from client.commands.logs import CONSOLE
from client.config.composition import Environment
from lifecycle.ports.store import ListedObject, Range

TAIL_BYTES: Final = 64 << 10  # of what there is already; `holdfast logs JOB --console` has all
ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
LAYOUT: Final = re.compile(r"(\d{1,9})-(\d{1,9})-(\d{1,9})")


@frozen(order=True)
class ConsolePosition:
    """A place in a job's console: attempt, segment, and bytes into it."""

    epoch: int = 0
    number: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `str` made; None for anything else."""
        found = LAYOUT.fullmatch(text)
        return cls(*map(int, found.groups())) if found else None


@frozen
class ConsolePart:
    """Text of one attempt, and the place after it."""

    epoch: int
    text: str
    end: ConsolePosition


@frozen
class _Segment:
    epoch: int
    number: int
    key: str
    size: int


def read_on(env: Environment, job: str, after: ConsolePosition | None) -> list[ConsolePart]:
    """What was written since *after*; since TAIL_BYTES before the end, if None.

    Raises:
        RetryableError: The bucket cannot be read.
        ConfigError: Wrong bucket or credentials.
    """
    segments = sorted(
        (_Segment(int(match[1]), int(match[2]), listed.key, listed.size_bytes) for listed, match in _listed(env, job)),
        key=lambda one: (one.epoch, one.number),
    )
    start = _tail(segments) if after is None else after
    newest = segments[-1].epoch if segments else 0
    pieces: list[ConsolePart] = []
    for one in segments:
        here = max(start, ConsolePosition(one.epoch, one.number))
        if (here.epoch, here.number) != (one.epoch, one.number) or here.offset >= one.size:
            continue
        body = env.store.get_range(Range(one.key, here.offset, one.size - here.offset)) or b""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text = decoder.decode(body, final=one.epoch < newest)
        left = len(decoder.getstate()[0])  # the first bytes of a character whose others are still to come
        pieces.append(
            ConsolePart(one.epoch, clean(text), ConsolePosition(one.epoch, one.number, here.offset + len(body) - left))
        )
    return pieces


def _listed(env: Environment, job: str) -> list[tuple[ListedObject, re.Match[str]]]:
    return [
        (listed, match) for listed in env.store.list(env.layout.job(job).logs) if (match := CONSOLE.search(listed.key))
    ]


def _tail(segments: Sequence[_Segment]) -> ConsolePosition:
    room = TAIL_BYTES
    for one in reversed(segments):
        if one.size >= room:
            return ConsolePosition(one.epoch, one.number, one.size - room)
        room -= one.size
    return ConsolePosition()


def clean(text: str) -> str:
    """Without what steers a terminal; a line that was overwritten becomes a line of its own."""
    return ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
