"""Failures of a job, counted by machine, and nodes that cannot run it.

Evidence from one machine never fails a job for good, unless no other machine comes to try it (docs/adr/0029).
"""

from datetime import timedelta

from attrs import evolve, frozen

from lifecycle.evidence import Misfit
from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.limits import Limits
from lifecycle.record.usability import RESUMES, can_fall_back, fallen_back, with_failed_resume


def with_age(record: JobRecord, age_s: float) -> JobRecord:
    """Return *record* with the time for which it was not written, by the store's clock, added to its waiting times."""
    age_s, failed_on, misfits = max(age_s, 0.0), record.failed_on, record.misfits
    if failed_on.machines:
        failed_on = evolve(failed_on, alone_s=failed_on.alone_s + age_s)
    if misfits.seen:
        misfits = evolve(misfits, waited_s=misfits.waited_s + age_s)
    return evolve(record, failed_on=failed_on, misfits=misfits)


def with_attempt_on(record: JobRecord, machine: str) -> JobRecord:
    """Return *record* once *machine* tries the job: the wait for another machine starts again if it is another."""
    tried_by_another = bool(record.failed_on.machines) and machine not in record.failed_on.machines
    return evolve(record, failed_on=evolve(record.failed_on, alone_s=0.0)) if tried_by_another else record


@frozen
class Failure:
    """The failure of an attempt.

    Attributes:
        machine: Name of the machine.
        took_s: Seconds that the attempt took.
        progressed: Whether the attempt passed the high-water mark.
        by_itself: Whether the program failed by itself, and neither for lack of time nor by a fault of Holdfast's.
        resumed_from: Number of the checkpoint that it resumed from; None if it started from the input.
        skipped_damaged: Whether the attempt resumed from the fallback, because the checkpoint is damaged.
    """

    machine: str
    took_s: float
    progressed: bool
    by_itself: bool
    resumed_from: int | None = None
    skipped_damaged: bool = False


def with_failure(record: JobRecord, limits: Limits, failure: Failure) -> JobRecord:
    """Return *record* with the failure of its newest attempt. To be applied once."""
    if failure.progressed:
        return record  # its commit has forgotten all earlier failures
    alone_s = record.failed_on.alone_s + (failure.took_s if record.failed_on.machines else 0.0)
    failed_on = evolve(record.failed_on.including(failure.machine), alone_s=alone_s)
    failed = evolve(record, failures=record.failures + 1, failed_on=failed_on)
    if not can_fall_back(failed):
        return failed
    if failure.skipped_damaged:
        return fallen_back(failed)
    if failure.by_itself and record.checkpoint is not None and failure.resumed_from == record.checkpoint.seq:
        failed = with_failed_resume(failed)
        return fallen_back(failed) if failed.mark.failed_resumes >= RESUMES else failed
    return fallen_back(failed) if failed.failures >= limits.max_failures else failed


def is_exhausted(record: JobRecord, limits: Limits) -> bool:
    """Return whether the failures of *record* are enough to fail the job for good."""
    return record.failures >= limits.max_failures and not can_fall_back(record) and is_proven(record, limits)


def is_proven(record: JobRecord, limits: Limits) -> bool:
    """Return whether the failures are the job's and not one machine's: two failed it, or no other has come."""
    failed_on = record.failed_on
    return len(failed_on.machines) > 1 or failed_on.alone_s >= limits.fail_patience.total_seconds()


def wait_for_another_machine(record: JobRecord, limits: Limits) -> timedelta:
    """Return how long a machine that failed the job leaves it to others, because its next failure would be the last."""
    is_last_try = record.failures >= limits.max_failures - 1 and not can_fall_back(record)
    if not record.failures or not is_last_try or len(record.failed_on.machines) > 1:
        return timedelta(0)
    return max(limits.fail_patience - timedelta(seconds=record.failed_on.alone_s), timedelta(0))


def with_misfit(record: JobRecord, misfit: Misfit) -> JobRecord:
    """Return *record* with a node that cannot run the job. Applying it twice has no further effect."""
    return evolve(record, misfits=record.misfits.including(misfit))


def fits_nowhere(record: JobRecord, limits: Limits, *, age_s: float = 0.0) -> bool:
    """Return whether the job has waited too long for a node that can run it.

    Args:
        record: The record.
        limits: Holds the patience.
        age_s: Seconds since it was written, by the store's clock, unless they are counted already.
    """
    misfits = record.misfits
    return bool(misfits.seen) and misfits.waited_s + age_s >= limits.misfit_patience.total_seconds()


def machine_of(attempt: AttemptSummary) -> str:
    """Return the name of the machine of *attempt*; older versions recorded only the name of the process."""
    return attempt.machine or attempt.node
