"""A lost attempt counts twice, so jobs fail too early."""

from attrs import evolve
from simulation.checker import TRUE_COUNTS
from simulation.mutants import replace

import lifecycle.record.claiming
from lifecycle.job_record import JobRecord
from lifecycle.record.claiming import _without_lost_owner

FOUND_AS = (TRUE_COUNTS,)


def install() -> None:
    def twice(record: JobRecord) -> JobRecord:
        lost = _without_lost_owner(record)
        return evolve(lost, deaths=2 * lost.deaths - record.deaths)

    replace(lifecycle.record.claiming, "_without_lost_owner", twice)
