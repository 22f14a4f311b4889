"""A drain, a pause or an unreadable store counts as a failure of the job."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from simulation.checker import TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.attempt.outcome import Outcome, finalize
from lifecycle.job_record import JobRecord
from lifecycle.states import Trigger

FOUND_AS = (TRUE_COUNTS,)


def install() -> None:
    def severe(outcome: Outcome, totals: Any, now: Any) -> Callable[[JobRecord], JobRecord]:
        change = finalize(outcome, totals, now)
        if outcome.trigger is not Trigger.RELEASE or outcome.cause == "workload_failed":
            return change
        return lambda record: evolve(change(record), failures=record.failures + 1)

    replace(lifecycle.attempt.attempt, "finalize", severe)
