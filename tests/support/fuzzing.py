"""Strategies for invalid JSON values. A mostly valid one gets further than noise."""

import copy
import json
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES: Final = 2000

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "..", "../../x", "/etc/x", "a\0b", "\ud800", "1" * 400, "running", "completed"])
    | st.sampled_from([-1, 2**63, 10**400, True, 1e308])
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=9)


def fuzz(cases: int = CASES) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on *cases* inputs, the same in every run."""
    return settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def spoilt(draw: st.DrawFn, good: Any) -> Any:
    """Replace, remove or add one to three parts of *good*, a JSON value."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        where = value
        while isinstance(where, dict | list) and where:
            key = draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
            if not isinstance(where[key], dict | list) or not where[key] or draw(st.booleans()):
                what = draw(st.sampled_from(["replace", "remove", "add"]))
                if what == "replace":
                    where[key] = draw(JSON)
                elif what == "remove":
                    del where[key]
                elif isinstance(where, dict):
                    where[draw(st.text(max_size=9))] = draw(JSON)
                else:
                    where.append(draw(JSON))
                break
            where = where[key]
    return value


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()
