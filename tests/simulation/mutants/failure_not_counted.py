"""Failures of a workload are not counted, so a job that always fails is retried for ever."""

from typing import Any

from attrs import evolve
from simulation.checker import LIVENESS, TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.supervisor
from lifecycle.attempt.outcome import Outcome, after_failure

FOUND_AS = (TRUE_COUNTS, LIVENESS)


def install() -> None:
    def forgiving(*args: Any, **kwargs: Any) -> Outcome:
        outcome = after_failure(*args, **kwargs)
        return evolve(outcome, change=lambda record: evolve(outcome.change(record), failures=record.failures))

    replace(lifecycle.attempt.supervisor, "after_failure", forgiving)
