"""An interruption resets the count of failures, so a job that always fails is retried for ever."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from simulation.checker import LIVENESS, TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.attempt.outcome import Outcome, finalize
from lifecycle.job_record import JobRecord
from lifecycle.states import Trigger

FOUND_AS = (TRUE_COUNTS, LIVENESS)


def install() -> None:
    def forgetful(outcome: Outcome, totals: Any, now: Any) -> Callable[[JobRecord], JobRecord]:
        change = finalize(outcome, totals, now)
        if outcome.trigger is not Trigger.RELEASE or outcome.cause == "workload_failed":
            return change
        return lambda record: evolve(change(record), failures=0)

    replace(lifecycle.attempt.attempt, "finalize", forgetful)
