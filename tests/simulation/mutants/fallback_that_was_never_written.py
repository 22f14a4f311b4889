"""The fallback that a commit names has a manifest that was never written."""

from attrs import evolve
from simulation.checker import ALL_THERE
from simulation.mutants import replace
from simulation.truth import FALLBACK

import lifecycle.attempt.checkpoint_scheduler
from lifecycle.job_record import JobRecord
from lifecycle.record.usability import Commit, with_commit

FOUND_AS = (ALL_THERE, FALLBACK)


def install() -> None:
    def careless(record: JobRecord, commit: Commit) -> JobRecord:
        pointed = with_commit(record, commit)
        ref = pointed.fallback
        return evolve(pointed, fallback=evolve(ref, manifest=f"{ref.manifest}.old")) if ref else pointed

    replace(lifecycle.attempt.checkpoint_scheduler, "with_commit", careless)
