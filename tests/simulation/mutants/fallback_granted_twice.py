"""A job falls back as often as it fails, and not once for each high-water mark."""

from simulation.checker import LIVENESS, TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.record.blame
from lifecycle.job_record import JobRecord

FOUND_AS = (TRUE_COUNTS, LIVENESS)


def install() -> None:
    def always(record: JobRecord) -> bool:
        return record.checkpoint is not None

    replace(lifecycle.record.blame, "can_fall_back", always)
