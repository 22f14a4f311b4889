"""Any commit resets failures, so a job that always fails at one step falls back, comes there again, and never ends."""

from typing import Any

from attrs import evolve
from simulation.checker import LIVENESS, TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.attempt.checkpoint_scheduler
from lifecycle.evidence import NO_FAILURES
from lifecycle.job_record import JobRecord
from lifecycle.record.usability import with_commit

FOUND_AS = (TRUE_COUNTS, LIVENESS)


def install() -> None:
    def forgetful(record: JobRecord, commit: Any) -> JobRecord:
        return evolve(with_commit(record, commit), failures=0, deaths=0, failed_on=NO_FAILURES)

    replace(lifecycle.attempt.checkpoint_scheduler, "with_commit", forgetful)
