"""A drained attempt that had resumed from a checkpoint counts as a failed resume."""

from collections.abc import Callable
from typing import Any

from simulation.checker import NEVER_BACK, TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.attempt.outcome import Outcome, finalize
from lifecycle.job_record import JobRecord
from lifecycle.record.usability import with_failed_resume

FOUND_AS = (TRUE_COUNTS, NEVER_BACK)


def install() -> None:
    def suspicious(outcome: Outcome, totals: Any, now: Any) -> Callable[[JobRecord], JobRecord]:
        change = finalize(outcome, totals, now)
        if outcome.cause != "drained" or totals.commits:
            return change
        return lambda record: with_failed_resume(change(record))

    replace(lifecycle.attempt.attempt, "finalize", suspicious)
