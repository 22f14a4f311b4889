"""The fallback that a commit names has a manifest that was never written."""

from typing import Any

from attrs import evolve
from simulation.checker import ALL_THERE
from simulation.mutants import replace
from simulation.truth import FALLBACK

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.job_record import JobRecord

FOUND_AS = (ALL_THERE, FALLBACK)


def install() -> None:
    pointing_at = CheckpointScheduler._pointing_at

    def _pointing_at(self: CheckpointScheduler, *args: Any, **kwargs: Any) -> Any:
        change = pointing_at(self, *args, **kwargs)

        def point(record: JobRecord) -> JobRecord:
            pointed = change(record)
            ref = pointed.fallback
            return evolve(pointed, fallback=evolve(ref, manifest=f"{ref.manifest}.old")) if ref else pointed

        return point

    replace(CheckpointScheduler, "_pointing_at", _pointing_at)
