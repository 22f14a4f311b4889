"""Text for people: sizes, durations, and text that is safe to print on a terminal."""

from datetime import datetime
from typing import Final
from unicodedata import combining, east_asian_width

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
KIB: Final = 1024
WIDE: Final = frozenset("WF")
ELLIPSIS: Final = "\u2026"


def format_size(size_bytes: int) -> str:
    """Return a size in the largest unit that keeps it at one or more, such as `1.5 MiB`."""
    size = float(size_bytes)
    for unit in UNITS[:-1]:
        if size < KIB:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= KIB
    return f"{size:.1f} {UNITS[-1]}"


def format_duration(seconds: float | None) -> str:
    """Return a duration in its two largest units, such as `3h 20m`; an empty string for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // below}{smaller}"
    return f"{whole}s"


def local_time(at: str | None, now: datetime | None = None) -> str:
    """Return a time in the time zone of this machine: `14:05:09` on the same day, otherwise `Nov 27 14:05`.

    Args:
        at: The time, ISO 8601. One that cannot be parsed is returned as it is.
        now: The present; None: by this machine's clock.
    """
    try:
        moment = datetime.fromisoformat(at or "").astimezone()
    except (ValueError, OverflowError):
        return at or ""
    today = (now or datetime.now().astimezone()).astimezone()
    if moment.date() == today.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%b} {moment.day:2} {moment:%H:%M}" + ("" if moment.year == today.year else f" {moment.year}")


def printable(text: str) -> str:
    """Return *text* with control characters replaced: a workload may have written it, and could steer the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def display_width(text: str) -> int:
    """Return the number of columns that *text* takes on a terminal: letters of East Asia take two, accents none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in WIDE else 1 for char in text)


def cut(text: str, width: int) -> str:
    """Return *text*, cut to *width* columns; a cut text ends in an ellipsis."""
    if display_width(text) <= width:
        return text
    while text and display_width(text) >= width:
        text = text[:-1]
    return f"{text.rstrip()}{ELLIPSIS}"


def pad(text: str, width: int) -> str:
    """Return *text* with spaces after it, so that it takes *width* columns."""
    return text + " " * (width - display_width(text))
