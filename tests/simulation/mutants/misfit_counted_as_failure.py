"""A node that lacks the workload counts a failure of the job."""

from typing import Any

from attrs import evolve
from simulation.checker import LIVENESS, TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.attempt.outcome import Outcome, of_misfit
from lifecycle.job_record import JobRecord

FOUND_AS = (TRUE_COUNTS, LIVENESS)


def install() -> None:
    def blaming(record: JobRecord, limits: Any, misfit: Any) -> Outcome:
        outcome = of_misfit(record, limits, misfit)
        failures = record.failures + 1
        return evolve(outcome, change=lambda latest: evolve(outcome.change(latest), failures=failures))

    replace(lifecycle.attempt.attempt, "of_misfit", blaming)
