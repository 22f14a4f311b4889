"""An interruption resets the count of failures, so a job that always fails is retried for ever."""

from attrs import evolve
from simulation.checker import LIVENESS, TRUE_COUNTS

import lifecycle.attempt.attempt
from lifecycle.states import Trigger

FOUND_AS = (TRUE_COUNTS, LIVENESS)


def install() -> None:
    finalize = lifecycle.attempt.attempt.finalize

    def forgetful(outcome, totals, now):
        change = finalize(outcome, totals, now)
        if outcome.trigger is not Trigger.RELEASE or outcome.cause == "workload_failed":
            return change
        return lambda record: evolve(change(record), failures=0)

    lifecycle.attempt.attempt.finalize = forgetful
