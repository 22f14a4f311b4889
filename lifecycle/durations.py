"""Durations as people write them: `90`, `90s`, `15m`, `1.5h`, `2d`."""

import re
from datetime import timedelta
from typing import Final

UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S: Final = 366 * 86_400

_FORM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse(text: str) -> timedelta:
    """The duration that *text* says.

    Raises:
        ValueError: It says none, or more than a year.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no duration: write 90, 90s, 15m, 2h or 1d")
    seconds = float(found[1]) * UNITS_S[found[2]]
    if seconds > LONGEST_S:
        raise ValueError(f"{text!r} is more than a year")
    return timedelta(seconds=seconds)


def show(duration: timedelta) -> str:
    """*duration* in the largest unit that it is a whole number of."""
    seconds = duration.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:g}s"
