"""The layout of a diagram as a browser drew it, in pixels, and the faults that make it hard to read."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise, permutations

from attrs import frozen

GAP = 2.0  # between two labels, and between a label and a state
REACH = 8.0  # of a label from its arrow, and of an arrowhead from its state
COVERED = 6.0  # length of an arrow that may lie below the states at its ends
TOGETHER = 30.0  # length of an arrow that may lie on another one: where both meet the same state

Point = tuple[float, float]


@frozen
class Box:
    """A rectangle, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, point: Point, inset: float = 0) -> bool:
        """Return whether *point* lies more than *inset* inside the rectangle."""
        x, y = point
        return self.left + inset < x < self.right - inset and self.top + inset < y < self.bottom - inset

    def touches(self, other: "Box") -> bool:
        """Return whether less than GAP lies between the two rectangles."""
        return (
            self.left < other.right + GAP
            and other.left < self.right + GAP
            and self.top < other.bottom + GAP
            and other.top < self.bottom + GAP
        )

    def distance(self, point: Point) -> float:
        """Return the distance of *point* from the rectangle: 0 inside it."""
        x, y = point
        return float((max(self.left - x, 0, x - self.right) ** 2 + max(self.top - y, 0, y - self.bottom) ** 2) ** 0.5)


@frozen
class Drawn:
    """An arrow as drawn: its ends' names, points at most 2 pixels apart, and its label's box if it has one."""

    source: str
    target: str
    points: Sequence[Point]
    label: Box | None = None

    def __str__(self) -> str:
        """Return the ends, for messages."""
        return f"{self.source} → {self.target}"

    def length(self, inside: Box, inset: float = 0) -> float:
        """Return the length of the part of the arrow that is inside a rectangle."""
        return sum(_distance(a, b) for a, b in pairwise(self.points) if inside.holds(b, inset))


def faults(states: Mapping[str, Box], arrows: Sequence[Drawn]) -> list[str]:
    """Return a sentence for each overlap, and for each part of an arrow that is out of place."""
    return [*_faults_of_labels(states, arrows), *_faults_of_arrows(states, arrows)]


def _faults_of_labels(states: Mapping[str, Box], arrows: Sequence[Drawn]) -> Iterator[str]:
    labelled = [(arrow, arrow.label) for arrow in arrows if arrow.label]
    for (one, label), (other, box) in combinations(labelled, 2):
        if label.touches(box):
            yield f"the labels of {one} and {other} overlap"
    for arrow, label in labelled:
        for state, box in states.items():
            if label.touches(box):
                yield f"the label of {arrow} lies on {state}"
        if min(map(label.distance, arrow.points)) > REACH:
            yield f"the label of {arrow} is far from its arrow"
        for other in arrows:
            if other is not arrow and other.length(label, inset=1) > 0:
                yield f"{other} runs through the label of {arrow}"


def _faults_of_arrows(states: Mapping[str, Box], arrows: Sequence[Drawn]) -> Iterator[str]:
    for arrow in arrows:
        ends = {arrow.source, arrow.target}
        if (
            states[arrow.source].distance(arrow.points[0]) > REACH
            or states[arrow.target].distance(arrow.points[-1]) > REACH
        ):
            yield f"{arrow} does not reach its ends"
        for state, box in states.items():
            if state not in ends and arrow.length(box) > 0:
                yield f"{arrow} runs through {state}"
            if state in ends and arrow.length(box, inset=3) > COVERED:
                yield f"{arrow} is hidden behind {state}"
    for one, other in permutations(arrows, 2):
        beside = {(round(x / 3), round(y / 3)) for x, y in other.points}
        pairs = pairwise(one.points)
        if sum(_distance(a, b) for a, b in pairs if (round(b[0] / 3), round(b[1] / 3)) in beside) > TOGETHER:
            yield f"{one} lies on {other}"


def _distance(a: Point, b: Point) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)
