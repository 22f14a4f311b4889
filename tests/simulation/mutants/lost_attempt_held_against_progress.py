"""An attempt that was lost after a commit counts as lost without progress."""

from attrs import evolve
from simulation.checker import TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.record.claiming
from lifecycle.job_record import JobRecord
from lifecycle.record.claiming import _without_lost_owner

FOUND_AS = (TRUE_COUNTS,)


def install() -> None:
    def always(record: JobRecord) -> JobRecord:
        return evolve(_without_lost_owner(record), deaths=record.deaths + 1)

    replace(lifecycle.record.claiming, "_without_lost_owner", always)
