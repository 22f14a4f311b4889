"""A commit names itself as its fallback, so one damaged object ends the job."""

from typing import Any

from attrs import evolve
from simulation.mutants import replace
from simulation.truth import FALLBACK

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.job_record import JobRecord

FOUND_AS = (FALLBACK,)


def install() -> None:
    pointing_at = CheckpointScheduler._pointing_at

    def _pointing_at(self: CheckpointScheduler, *args: Any, **kwargs: Any) -> Any:
        change = pointing_at(self, *args, **kwargs)

        def point(record: JobRecord) -> JobRecord:
            pointed = change(record)
            return evolve(pointed, fallback=pointed.checkpoint)

        return point

    replace(CheckpointScheduler, "_pointing_at", _pointing_at)
