"""Claiming a job empties its outbox, so notices of the previous attempt are never delivered."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from simulation.mutants import replace
from simulation.notifier import TOLD

import lifecycle.attempt.attempt
from lifecycle.job_record import JobRecord
from lifecycle.outbox import EMPTY
from lifecycle.record.claiming import claiming

FOUND_AS = (TOLD,)


def install() -> None:
    def emptied(*args: Any, **kwargs: Any) -> Callable[[JobRecord], JobRecord]:
        change = claiming(*args, **kwargs)
        return lambda record: evolve(change(record), outbox=EMPTY)

    replace(lifecycle.attempt.attempt, "claiming", emptied)
