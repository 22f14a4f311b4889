"""A node that lacks the workload fails the job, as if no other node could have it."""

from typing import Any

from attrs import evolve
from simulation.checker import LIVENESS
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.attempt.outcome import Outcome, of_misfit
from lifecycle.job_record import JobRecord
from lifecycle.states import Trigger

FOUND_AS = (LIVENESS,)


def install() -> None:
    def failing(record: JobRecord, limits: Any, misfit: Any) -> Outcome:
        return evolve(of_misfit(record, limits, misfit), trigger=Trigger.FAIL)

    replace(lifecycle.attempt.attempt, "of_misfit", failing)
