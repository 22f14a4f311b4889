"""Faults and their times, drawn from the seed, so that a history can be shown, replayed and shrunk."""

import random
from collections.abc import Sequence
from typing import Final

from attrs import frozen

CALLS: Final = (
    "record",
    "record",
    "record",
    "manifest",
    "pack",
    "log",
    "sweep",
    "remove",
    "copy",
    "read",
    "fetch",
    "restore",
    "restore",
    "receive",
    "extend",
    "release",
    "delete",
    "send",
)
"""Kinds of calls by purpose, as returned by `ports.kind_of`."""

ANY: Final = "any"
"""Calls of any kind."""

MISHAPS: Final = (
    "refused",  # 429, 500, 503, 409, or a time-out before it arrived
    "answer lost",
    "carried out late",
    "crash before",
    "crash before",
    "crash after",
    "crash after",
    "hang before",
    "hang before",
    "hang after",
    "hang after",
    "short answer",  # of a ranged read
    "answer unreadable",  # of a read; of a write, the answer is lost, and the next reads of that key are unreadable
)

TROUBLES: Final = (
    "crash",
    "crash",
    "hang",
    "hang",
    "drain",
    "cut off from the queue",
    "cut off from the store",
    "cut off from both",
    "credentials denied",
    "disk full",
    "object damaged",
    "object cut short",
    "object gone",
    "message dropped",
    "message doubled",
    "receipts expired",
    "cancel",
    "cancel",
    "retry",
    "reconcile",
)

RECEIVER_DOWN: Final = "receiver down"
DELIVERY: Final = "deliver"
"""The kind of call that delivers a notice."""

COMMANDS: Final = ("cancel", "cancel", "retry", "retry", "retry from start", "reconcile", "archive")
"""Commands of operators; see `operators.COMMANDS`."""

OPERATORS_MISHAPS: Final = ("refused", "answer lost", "carried out late", "crash before", "crash after", "hang before")

SPOILING: Final = frozenset({"object damaged", "object cut short", "object gone"})
"""The troubles that damage committed data."""

FAULTY_S: Final = 240.0
"""Faults happen before this moment; then everything heals."""


@frozen
class Fault:
    """One fault.

    Attributes:
        what: One of MISHAPS, which happen at a call, or of TROUBLES, which happen at a moment.
        call: The kind of call at which a mishap happens.
        nth: The number of that call among all calls of its kind, from 1.
        at: The moment of a trouble, in seconds.
        lasts_s: Its duration in seconds, if it has one.
        pick: Chooses the process, the job or the key, in [0, 1).
    """

    what: str
    call: str = ""
    nth: int = 0
    at: float = 0.0
    lasts_s: float = 0.0
    pick: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.0f} s" if self.lasts_s else ""
        return f"{self.what} at {self.call} number {self.nth}{lasts}" if self.call else f"{self.what}{lasts}"


def draw(rng: random.Random) -> tuple[Fault, ...]:
    """Draw up to twelve faults for a history; in half of the histories two kinds of calls get all mishaps."""
    favoured = rng.sample(CALLS, 2) if rng.random() < 0.5 else CALLS
    return tuple(_fault(rng, favoured) for _ in range(rng.choice((0, 1, 2, 3, 4, 6, 9, 12))))


def draw_for_receiver(rng: random.Random) -> tuple[Fault, ...]:
    """Draw further faults for a history with webhooks: receiver outages, and mishaps during delivery."""
    return tuple(_receiver_fault(rng) for _ in range(rng.choice((0, 0, 1, 2, 4))))


def draw_for_operators(rng: random.Random) -> tuple[Fault, ...]:
    """Draw further commands of operators, two of them at once at times, and mishaps at their calls."""
    if rng.random() < 0.5:
        return ()
    drawn: list[Fault] = []
    for _ in range(rng.choice((1, 2, 3))):
        at, pick = round(rng.uniform(0, FAULTY_S), 2), rng.random()
        together = rng.choice((1, 1, 2))
        drawn += [Fault(rng.choice(COMMANDS), at=at + rng.choice((0.0, 0.2)), pick=pick) for _ in range(together)]
    for _ in range(rng.choice((0, 1, 2, 4))):
        call = f"operator {rng.choice(COMMANDS)}"
        lasts_s = round(rng.choice((2.0, 12.0, 60.0)), 1)
        drawn.append(
            Fault(rng.choice(OPERATORS_MISHAPS), call=call, nth=rng.choice((1, 2, 3, 4, 6, 9)), lasts_s=lasts_s)
        )
    return tuple(drawn)


def _receiver_fault(rng: random.Random) -> Fault:
    lasts_s = round(rng.choice((2.0, 12.0, rng.uniform(20, 200))), 1)
    if rng.random() < 0.4:
        return Fault(RECEIVER_DOWN, at=round(rng.uniform(0, FAULTY_S), 2), lasts_s=lasts_s)
    what = rng.choice([mishap for mishap in MISHAPS if "short" not in mishap and "unreadable" not in mishap])
    return Fault(what, call=DELIVERY, nth=rng.choice((1, 2, 3, 4, rng.randint(1, 20))), lasts_s=lasts_s)


def _fault(rng: random.Random, favoured: Sequence[str]) -> Fault:
    lasts_s = round(rng.choice((2.0, 12.0, rng.uniform(20, 150))), 1)
    if rng.random() < 0.6:
        nth = rng.choice((1, 2, 3, rng.randint(1, 12), rng.randint(1, 40)))
        return Fault(rng.choice(MISHAPS), call=rng.choice(favoured), nth=nth, lasts_s=lasts_s, pick=rng.random())
    return Fault(rng.choice(TROUBLES), at=round(rng.uniform(0, FAULTY_S), 2), lasts_s=lasts_s, pick=rng.random())
