"""Durations in the notation that settings, options and job parameters use: `90`, `90s`, `15m`, `1.5h`, `2d`."""

import re
from datetime import timedelta
from typing import Final

UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S: Final = 366 * 86_400

_FORM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse(text: str) -> timedelta:
    """Return the duration written as *text*: a number with a unit `s`, `m`, `h` or `d`; seconds without one.

    Raises:
        ValueError: *text* is not a duration, or is longer than a year.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"invalid duration {text!r}: use forms like 90s, 15m, 2h")
    seconds = float(found[1]) * UNITS_S[found[2]]
    if seconds > LONGEST_S:
        raise ValueError(f"invalid duration {text!r}: use at most 366d")
    return timedelta(seconds=seconds)


def show(duration: timedelta) -> str:
    """Return *duration* as text, in the largest unit that divides it, or in half hours; `parse` reads it back."""
    seconds = duration.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
        if unit == "h" and seconds > size and seconds % (size / 2) == 0:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:g}s"
