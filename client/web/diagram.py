"""The dashboard's state diagram: arrows from the state table, positions set by hand, for wide and narrow screens.

A test fails if a state or an arrow of the table has no position here, so the drawing cannot fall behind.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

from lifecycle.states import EDGES, FINAL, OWNED, WAITING, State, Trigger

SUPERSEDED: Final = State.SUPERSEDED
WORKING: Final = frozenset({State.RUNNING, State.CHECKPOINTING})
GROUPS: Final[Mapping[str, frozenset[State]]] = {
    "owned": OWNED,
    "waiting": WAITING,
    "working": WORKING,
    "over": FINAL | {SUPERSEDED},
}
LONGEST_LINE: Final = 14  # characters of a state's name that fit in a narrow box

Pair = tuple[State, State]


@frozen
class Arrow:
    """An arrow: all edges of the table with the same two ends.

    Attributes:
        source: A state, or a group of GROUPS if the edge leaves each of its states.
        destination: The state it enters.
        triggers: The triggers of its edges.
        pairs: Source and destination of each of its edges.
    """

    source: str
    destination: State
    triggers: tuple[Trigger, ...]
    pairs: frozenset[Pair]

    @property
    def name(self) -> str:
        """Its name in the page."""
        return f"{self.source}-{self.destination}"

    @property
    def label(self) -> str:
        """Its triggers, as text."""
        return ", ".join(self.triggers)


def arrows() -> list[Arrow]:
    """Return the edges of the table as the fewest arrows."""
    sources: dict[tuple[Trigger, State], dict[State, None]] = {}
    for edge in EDGES:
        sources.setdefault((edge.trigger, edge.destination), {})[edge.source] = None
    triggers: dict[tuple[str, State], list[Trigger]] = {}
    pairs: dict[tuple[str, State], set[Pair]] = {}
    for (trigger, destination), ends in sources.items():
        for source, states in _grouped(ends, destination):
            triggers.setdefault((source, destination), []).append(trigger)
            pairs.setdefault((source, destination), set()).update((state, destination) for state in states)
    return [Arrow(*ends, tuple(fired), frozenset(pairs[ends])) for ends, fired in triggers.items()]


def _grouped(ends: Iterable[State], destination: State) -> list[tuple[str, list[State]]]:
    """Return the sources of a trigger and destination: whole groups first, then the remaining states one by one."""
    left, found = list(ends), []
    for name, group in GROUPS.items():
        within = destination in group and name != "owned"  # `take` enters `received` from all owned states
        if group <= set(left) and not within:
            found.append((name, sorted(group)))
            left = [state for state in left if state not in group]
    return [*found, *((state.value, [state]) for state in left)]


@frozen
class Box:
    """A rectangle: its centre and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """Its left edge."""
        return self.x - self.width / 2

    @property
    def top(self) -> float:
        """Its upper edge."""
        return self.y - self.height / 2


@frozen
class ArrowPath:
    """The path of an arrow in SVG, and the centre of its label."""

    path: str
    x: float
    y: float


@frozen
class DiagramLayout:
    """The positions of everything in a drawing.

    Attributes:
        name: The layout's name in the page.
        width: Width of the drawing.
        height: Height of the drawing.
        boxes: Boxes of the states.
        groups: Boxes of the groups.
        paths: Paths of the arrows, by `Arrow.name`.
    """

    name: str
    width: int
    height: int
    boxes: Mapping[State, Box]
    groups: Mapping[str, Box]
    paths: Mapping[str, ArrowPath]

    def lines(self, state: State) -> list[str]:
        """Return the state's name, in two lines if one would not fit."""
        if self.boxes[state].width > 8 * LONGEST_LINE or len(state) <= LONGEST_LINE:
            return [state.value]
        head, _, tail = state.rpartition("_")
        return [f"{head}_", tail]


def _boxes(width: float, height: float, places: Mapping[State, tuple[float, float]]) -> dict[State, Box]:
    return {state: Box(x, y, width, height) for state, (x, y) in places.items()}


WIDE: Final = DiagramLayout(
    name="wide",
    width=1140,
    height=500,
    boxes=_boxes(
        152,
        56,
        {
            State.QUEUED: (110, 120),
            State.RELEASED: (110, 245),
            State.PAUSED_FOR_TIMEOUT: (110, 370),
            State.RECEIVED: (385, 245),
            State.INPUT_LOADED: (575, 130),
            State.RESUMED: (575, 360),
            State.RUNNING: (775, 130),
            State.CHECKPOINTING: (775, 306),
            State.COMPLETED: (1030, 120),
            State.FAILED: (1030, 205),
            SUPERSEDED: (1030, 290),
            State.CANCELLED: (1030, 375),
        },
    ),
    groups={
        "waiting": Box(110, 237, 184, 360),
        "owned": Box(585, 237, 580, 360),
        "working": Box(775, 233, 180, 292),
        "over": Box(1030, 237, 184, 360),
    },
    paths={
        "waiting-received": ArrowPath("M202 180 C260 180 250 232 304 236", 248, 178),
        "owned-received": ArrowPath("M295 372 C350 372 385 330 385 278", 338, 384),
        "owned-released": ArrowPath("M295 290 C250 290 245 260 191 256", 246, 306),
        "received-input_loaded": ArrowPath("M420 217 C445 160 460 132 494 130", 428, 158),
        "received-resumed": ArrowPath("M420 273 C445 330 460 358 494 360", 470, 318),
        "input_loaded-running": ArrowPath("M651 130 L694 130", 671, 118),
        "resumed-running": ArrowPath("M630 332 C660 250 650 150 694 142", 628, 268),
        "running-checkpointing": ArrowPath("M730 158 L730 273", 730, 190),
        "checkpointing-running": ArrowPath("M812 278 L812 163", 812, 246),
        "checkpointing-checkpointing": ArrowPath("M740 334 C740 362 810 362 810 339", 775, 368),
        "working-completed": ArrowPath("M865 120 L949 120", 906, 108),
        "working-paused_for_timeout": ArrowPath(
            "M720 379 C720 470 720 455 680 455 L150 455 C110 455 110 440 110 403", 440, 443
        ),
        "owned-failed": ArrowPath("M875 205 L949 205", 911, 193),
        "owned-superseded": ArrowPath("M875 290 L949 290", 909, 278),
        "owned-cancelled": ArrowPath("M875 375 L949 375", 911, 363),
        "waiting-cancelled": ArrowPath("M60 417 C60 482 60 482 100 482 L990 482 C1030 482 1030 460 1030 408", 440, 470),
        "failed-queued": ArrowPath(
            "M1106 205 C1134 205 1134 205 1134 180 L1134 60 C1134 24 1134 24 1100 24 L150 24 C110 24 110 30 110 87",
            585,
            12,
        ),
        "cancelled-queued": ArrowPath("M1106 375 C1134 375 1134 375 1134 350 L1134 180", 1134, 0),
    },
)

NARROW: Final = DiagramLayout(
    name="narrow",
    width=360,
    height=640,
    boxes=_boxes(
        98,
        54,
        {
            State.QUEUED: (62, 78),
            State.PAUSED_FOR_TIMEOUT: (169, 78),
            State.RELEASED: (276, 78),
            State.RECEIVED: (169, 214),
            State.INPUT_LOADED: (80, 304),
            State.RESUMED: (258, 304),
            State.RUNNING: (80, 396),
            State.CHECKPOINTING: (258, 396),
        },
    )
    | _boxes(
        78,
        54,
        {
            State.COMPLETED: (48, 560),
            SUPERSEDED: (130, 560),
            State.FAILED: (212, 560),
            State.CANCELLED: (294, 560),
        },
    ),
    groups={
        "waiting": Box(169, 75, 326, 86),
        "owned": Box(169, 327, 302, 296),
        "working": Box(169, 401, 288, 124),
        "over": Box(171, 562, 334, 96),
    },
    paths={
        "waiting-received": ArrowPath("M222 118 C222 150 190 150 182 182", 226, 162),
        "owned-received": ArrowPath("M18 236 C50 252 85 244 115 228", 64, 226),
        "owned-released": ArrowPath("M276 179 L276 110", 254, 138),
        "received-input_loaded": ArrowPath("M140 241 C130 260 110 262 96 272", 84, 258),
        "received-resumed": ArrowPath("M198 241 C208 260 228 262 242 272", 254, 258),
        "input_loaded-running": ArrowPath("M80 331 L80 364", 96, 348),
        "resumed-running": ArrowPath("M230 331 C210 356 150 345 118 366", 170, 342),
        "running-checkpointing": ArrowPath("M129 388 L204 388", 168, 378),
        "checkpointing-running": ArrowPath("M209 408 L134 408", 168, 431),
        "checkpointing-checkpointing": ArrowPath("M230 423 C230 448 286 448 286 428", 236, 452),
        "working-completed": ArrowPath("M48 463 L48 528", 50, 494),
        "working-paused_for_timeout": ArrowPath(
            "M25 401 C10 401 10 401 10 380 L10 150 C10 136 10 136 26 136 L150 136 C169 136 169 130 169 110", 110, 146
        ),
        "owned-failed": ArrowPath("M212 475 L212 528", 212, 504),
        "owned-superseded": ArrowPath("M130 475 L130 528", 128, 504),
        "owned-cancelled": ArrowPath("M282 475 L282 528", 280, 494),
        "waiting-cancelled": ArrowPath("M332 96 C341 96 341 96 341 110 L341 490 C341 508 312 505 306 528", 322, 146),
        "failed-queued": ArrowPath(
            "M212 587 C212 620 212 622 232 622 L330 622 C354 622 354 622 354 600 L354 40 "
            "C354 14 354 14 330 14 L82 14 C62 14 62 14 62 46",
            200,
            10,
        ),
        "cancelled-queued": ArrowPath("M294 587 L294 622", 294, 0),
    },
)

LAYOUTS: Final = (WIDE, NARROW)
UNLABELLED: Final = frozenset({"cancelled-queued"})
"""Arrows that join another arrow with the same label."""
