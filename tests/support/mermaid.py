"""A parser of the state diagrams that `lifecycle.statechart` writes: their arrows and the edges these represent."""

import re
from collections import defaultdict

from attrs import frozen

START = "[*]"
ARROW = re.compile(r"(\S+) --> (\w+)(?:: (.+))?")
ENTRY = re.compile(r"(\w+): (\w+)")
DIAMOND = re.compile(r"state (\w+) <<choice>>")
CHANGE = re.compile(r"(\w+)?(?: ?\[([^]]+)\])?(?: ?→ (\w+))?")


@frozen
class Arrow:
    """One arrow as drawn, with its label on one line."""

    source: str
    target: str
    label: str


def arrows(text: str) -> list[Arrow]:
    """Return the arrows of a diagram in the order in which Mermaid numbers them."""
    return [
        Arrow(match[1], match[2], (match[3] or "").replace("<br/>", " "))
        for line in text.splitlines()
        if (match := ARROW.fullmatch(line.strip()))
    ]


def edges(text: str) -> list[tuple[str, str, str]]:
    """Return (source, trigger, destination) for each edge that the arrows of a diagram represent.

    An arrow from a box represents one edge from each state in the brackets of its label, or from each state listed in
    the box. An arrow into a diamond continues as the arrow that leaves it.
    """
    lines = [line.strip() for line in text.splitlines()]
    boxes: dict[str, list[str]] = defaultdict(list)
    for match in filter(None, map(ENTRY.fullmatch, lines)):
        if match[1] != match[2]:
            boxes[match[1]].append(match[2])
    diamonds = {match[1] for match in map(DIAMOND.fullmatch, lines) if match}
    drawn = [arrow for arrow in arrows(text) if arrow.source != START]
    leaving = {arrow.source: arrow for arrow in drawn if arrow.source in diamonds}
    found = []
    for arrow in drawn:
        if arrow.source in diamonds:
            continue
        onward = leaving.get(arrow.target)
        label, target = (f"{arrow.label} {onward.label}", onward.target) if onward else (arrow.label, arrow.target)
        for trigger, only, entered in changes(label):
            assert (entered in boxes[target]) if target in boxes else not entered, arrow
            sources = boxes.get(arrow.source, [arrow.source])
            if only:
                assert set(only) < set(sources), arrow
            found += [(source, trigger, entered or target) for source in only or sources]
    return found


def changes(label: str) -> list[tuple[str, list[str], str]]:
    """Return trigger, states in brackets and the state after the arrow, for each trigger of a label."""
    found = []
    label = re.sub(r"^(\[[^]]+\]) (\w+)", r"\2 \1", label.strip())  # into a diamond, the brackets come first
    while label:
        match = CHANGE.match(label)
        assert match, label
        assert match[1], label
        found.append((match[1], match[2].split(" or ") if match[2] else [], match[3] or ""))
        label = label[match.end() :].strip()
    return found
