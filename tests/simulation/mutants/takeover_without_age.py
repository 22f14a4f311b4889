"""A worker that receives a message claims the job, even if its owner's lease is fresh."""

from simulation.checker import LEASE

from lifecycle.job_record import JobRecord

FOUND_AS = (LEASE,)


def install() -> None:
    JobRecord.is_owned = lambda self, age_s: False  # type: ignore[assignment,method-assign]
