"""A message that holds a whole job is deleted before that job has a record."""

from simulation.checker import LIVENESS, MESSAGE

from lifecycle.attempt.attempt import Attempt
from lifecycle.attempt.outcome import Ending

FOUND_AS = (LIVENESS, MESSAGE)


def install() -> None:
    run = Attempt.run

    def run_a_job_that_is_safe(self: Attempt) -> Ending | None:
        if self._held is None:
            self._settlement.delete()
        return run(self)

    Attempt.run = run_a_job_that_is_safe  # type: ignore[method-assign]
