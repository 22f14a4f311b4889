"""Bounds of values that come from outside: job parameters, messages, records, and what a workload reports.

Whole numbers beyond 2^53 are not the same in every reader of JSON (https://www.rfc-editor.org/rfc/rfc8259#section-6),
NaN and infinity are not JSON at all, and deep nesting exhausts the stack.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

LARGEST_INTEGER: Final = 1 << 53
MAX_DEPTH: Final = 100  # of parameters; json.loads fails at Python's recursion limit, ten times as deep


def is_bounded(number: float) -> bool:
    """Return whether *number* is from -2^53 to 2^53."""
    return -LARGEST_INTEGER <= number <= LARGEST_INTEGER  # false for NaN


def problem_with(value: Any, name: str) -> str | None:
    """Return what is out of bounds in *value*, which was read from JSON; None if nothing is.

    Floats may be of any finite size.

    Args:
        value: The value; not deeper than the stack allows.
        name: Its name, for the text.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name} is {value}, which is not a number in JSON"
    if isinstance(value, int) and not is_bounded(value):
        return f"{name} is a whole number beyond 2^53, which JSON readers round: use text"
    named = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    problems = (problem_with(each, f"{name}.{key!s:.40}") for key, each in named)
    return next((problem for problem in problems if problem), None)


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether *value* contains objects or lists more than *levels* deep."""
    return levels < 0 or any(is_deeper(each, levels - 1) for each in _inner(value))


def finite(value: Any) -> Any:
    """Return *value*, which may be nested, with None in place of NaN and infinity, which no JSON reader has to know."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _inner(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
