"""Claiming a job empties its outbox, so notices of the previous attempt are never delivered."""

from attrs import evolve
from simulation.notifier import TOLD

import lifecycle.attempt.attempt
from lifecycle.outbox import EMPTY

FOUND_AS = (TOLD,)


def install() -> None:
    claiming = lifecycle.attempt.attempt.claiming

    def emptied(*args, **kwargs):
        change = claiming(*args, **kwargs)
        return lambda record: evolve(change(record), outbox=EMPTY)

    lifecycle.attempt.attempt.claiming = emptied
