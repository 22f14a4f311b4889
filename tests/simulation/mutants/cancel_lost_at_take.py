"""Taking a job drops the request to cancel it, so the next attempt runs."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from simulation.checker import CANCEL
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.job_record import Control, JobRecord
from lifecycle.record.claiming import claiming

FOUND_AS = (CANCEL,)


def install() -> None:
    def forgetful(*args: Any, **kwargs: Any) -> Callable[[JobRecord], JobRecord]:
        change = claiming(*args, **kwargs)
        return lambda record: evolve(change(record), control=Control())

    replace(lifecycle.attempt.attempt, "claiming", forgetful)
