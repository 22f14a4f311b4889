"""Patterns of paths in the job's directory, as workloads.toml contains them.

`*` and `?` match within one name, and not a dot at its beginning, as in a shell: `checkpoint/*` does not match the
temporary file `checkpoint/.state.tmp`. `**` means everything below, hidden or not: programs keep parts of their state
in names like `.metadata` or `.zarray`, and a checkpoint without those cannot be loaded.
"""

import re
from functools import cache
from typing import Final

PART: Final = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")
NO_DOT: Final = r"(?!\.)"  # at the beginning of a name


def matches_any(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether *path* matches one of *patterns*."""
    return compiled(patterns).fullmatch(path) is not None


@cache
def compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return one regular expression that matches the paths that any of *patterns* matches, as a whole."""
    return re.compile("|".join(f"(?:{_expression(pattern)})" for pattern in patterns) or r"(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    parts, begins_name = [], True
    for part in PART.findall(pattern):
        match part:
            case "**/":
                parts.append("(?:.*/)?")
            case "**":
                parts.append(".*")
            case "*" | "?":
                parts.append((NO_DOT if begins_name else "") + ("[^/]*" if part == "*" else "[^/]"))
            case text:
                parts.append(re.escape(text))
        begins_name = part.endswith("/")
    return "".join(parts)
