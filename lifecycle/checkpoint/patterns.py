"""Patterns of paths in the job's directory, as workloads.toml contains them: `**` crosses a `/`, `*` and `?` do not."""

import re
from functools import cache
from typing import Final

PART: Final = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")


def matches_any(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether *path* matches one of *patterns*."""
    return compiled(patterns).fullmatch(path) is not None


@cache
def compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return one regular expression that matches the paths that any of *patterns* matches, as a whole."""
    return re.compile("|".join(f"(?:{_expression(pattern)})" for pattern in patterns) or r"(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    parts = []
    for part in PART.findall(pattern):
        match part:
            case "**/":
                parts.append("(?:.*/)?")
            case "**":
                parts.append(".*")
            case "*" | "?":
                parts.append("[^/]*" if part == "*" else "[^/]")
            case text:
                parts.append(re.escape(text))
    return "".join(parts)
