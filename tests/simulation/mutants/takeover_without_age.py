"""A worker that receives a message claims the job, even if its owner's lease is fresh."""

from simulation.checker import LEASE
from simulation.mutants import replace

from lifecycle.job_record import JobRecord

FOUND_AS = (LEASE,)


def install() -> None:
    replace(JobRecord, "is_owned", lambda self, age_s: False)
