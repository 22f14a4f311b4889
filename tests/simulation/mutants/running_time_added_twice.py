"""The running time of an attempt is added twice to that of its job."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from simulation.checker import TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.attempt
from lifecycle.attempt.outcome import finalize
from lifecycle.job_record import JobRecord

FOUND_AS = (TRUE_COUNTS,)


def install() -> None:
    def generous(outcome: Any, totals: Any, now: Any) -> Callable[[JobRecord], JobRecord]:
        change = finalize(outcome, totals, now)

        def close(record: JobRecord) -> JobRecord:
            closed = change(record)
            return evolve(closed, ran_s=closed.ran_s + totals.useful_s)

        return close

    replace(lifecycle.attempt.attempt, "finalize", generous)
