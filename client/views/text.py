"""Text for people: sizes, durations, and text that is safe to print on a terminal."""

from typing import Final

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
KIB: Final = 1024


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


def printable(text: str) -> str:
    """Return *text* with control characters replaced: a workload may have written it, and could steer the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)
