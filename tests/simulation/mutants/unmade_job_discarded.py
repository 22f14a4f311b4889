"""A message that carries a whole job is deleted before the job has a record."""

from simulation.checker import LIVENESS, MESSAGE
from simulation.mutants import replace

from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.attempt.attempt import Attempt
from lifecycle.attempt.outcome import Outcome

FOUND_AS = (LIVENESS, MESSAGE)


def install() -> None:
    run = Attempt.run

    def run_a_job_that_is_safe(self: Attempt) -> Outcome | None:
        if self._stored is None:
            Acknowledgement(self._context, self._message, self._delivery).delete()
        return run(self)

    replace(Attempt, "run", run_a_job_that_is_safe)
