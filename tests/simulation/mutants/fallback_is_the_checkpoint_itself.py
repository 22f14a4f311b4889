"""A commit names itself as its fallback, so one damaged object ends the job."""

from attrs import evolve
from simulation.mutants import replace
from simulation.truth import FALLBACK

import lifecycle.attempt.checkpoint_scheduler
from lifecycle.job_record import JobRecord
from lifecycle.record.usability import Commit, with_commit

FOUND_AS = (FALLBACK,)


def install() -> None:
    def careless(record: JobRecord, commit: Commit) -> JobRecord:
        pointed = with_commit(record, commit)
        return evolve(pointed, fallback=pointed.checkpoint)

    replace(lifecycle.attempt.checkpoint_scheduler, "with_commit", careless)
