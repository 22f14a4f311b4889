"""Whoever takes a job begins with an empty outbox: what the attempt before left is never told."""

from attrs import evolve
from simulation.notifier import TOLD

import lifecycle.attempt.attempt
from lifecycle.outbox import EMPTY

FOUND_AS = (TOLD,)


def install() -> None:
    claim = lifecycle.attempt.attempt.claim

    def emptied(*args, **kwargs):
        return evolve(claim(*args, **kwargs), outbox=EMPTY)

    lifecycle.attempt.attempt.claim = emptied
