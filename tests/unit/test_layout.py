"""The diagram checker finds every fault: each drawing here has one."""

from itertools import pairwise

import pytest
from support.layout import Box, Drawn, faults

STATES = {"a": Box(0, 0, 40, 20), "b": Box(200, 0, 240, 20), "c": Box(100, 0, 140, 20), "d": Box(100, 200, 140, 220)}


def line(*corners: tuple[float, float]) -> list[tuple[float, float]]:
    """Return points a pixel apart along the corners."""
    points = []
    for (x, y), (to_x, to_y) in pairwise(corners):
        steps = round(max(abs(to_x - x), abs(to_y - y)))
        points += [(x + (to_x - x) * step / steps, y + (to_y - y) * step / steps) for step in range(steps + 1)]
    return points


AROUND = line((20, 20), (20, 100), (220, 100), (220, 20))
GOOD = Drawn("a", "b", AROUND, Box(100, 90, 130, 110))


def test_a_good_drawing_has_no_fault() -> None:
    """A label on its own arrow, and an arrow around the states that it does not join, are not faults."""
    assert faults(STATES, [GOOD]) == []


@pytest.mark.parametrize(
    ("arrows", "fault"),
    [
        ([GOOD, Drawn("b", "a", line((220, 20), (220, 80), (20, 80), (20, 20)), Box(120, 70, 150, 95))], "overlap"),
        ([Drawn("a", "b", AROUND, Box(100, 15, 130, 35))], "the label of a → b lies on c"),
        ([Drawn("a", "b", AROUND, Box(100, 120, 130, 140))], "the label of a → b is far from its arrow"),
        ([GOOD, Drawn("c", "d", line((110, 20), (110, 200)))], "c → d runs through the label of a → b"),
        ([Drawn("a", "b", line((20, 20), (20, 60), (200, 60)))], "a → b does not reach its ends"),
        ([Drawn("a", "b", line((40, 10), (200, 10)))], "a → b runs through c"),
        ([Drawn("a", "b", line((0, 10), (39, 10), (39, 60), (220, 60), (220, 20)))], "a → b is hidden behind a"),
        ([Drawn("a", "b", AROUND), Drawn("a", "b", AROUND)], "a → b lies on a → b"),
    ],
)
def test_a_fault_is_found(arrows: list[Drawn], fault: str) -> None:
    """Overlapping labels, labels on states, stray labels, hidden arrows, and arrows through states are found."""
    assert any(fault in found for found in faults(STATES, arrows))
