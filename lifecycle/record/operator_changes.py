"""Changes that operators make to a job that no attempt owns: cancel it, or reopen it.

Each begins a new epoch, so that an attempt that was only thought to be gone cannot undo it.
"""

from datetime import datetime

from attrs import evolve

from lifecycle.evidence import NO_FAILURES, NO_MISFITS, HighWaterMark
from lifecycle.job_record import Control, JobRecord, iso
from lifecycle.machine import moved
from lifecycle.record.claiming import lease_facts
from lifecycle.record.record_store import StoredRecord
from lifecycle.record.usability import with_mark_of_older_version
from lifecycle.states import Trigger


def cancelled(stored: StoredRecord, now: datetime, *, error: str | None = None) -> JobRecord:
    """Return the record of a cancelled job.

    Args:
        stored: The record as read.
        now: Time of the cancellation.
        error: Reason, if it is not an operator's wish.

    Raises:
        IllegalTransitionError: The job is over, or an attempt holds a fresh lease on it.
    """

    def end(record: JobRecord) -> JobRecord:
        stamps = evolve(record.timestamps, finished=iso(now))
        return evolve(record, epoch=record.epoch + 1, owner=None, timestamps=stamps, error=error or record.error)

    return moved(stored.record, Trigger.CANCEL, facts=lease_facts(stored), change=end)


def cancellation_requested(record: JobRecord) -> JobRecord:
    """Return *record* with the request that its owner cancel the job at the next heartbeat."""
    return evolve(record, control=evolve(record.control, cancel=True))


def reopened(record: JobRecord, *, from_start: bool) -> JobRecord:
    """Return the record of a failed or cancelled job that is queued again.

    Args:
        record: The record as read.
        from_start: Forget the checkpoints, and begin from the input.

    Raises:
        IllegalTransitionError: The job is neither failed nor cancelled.
    """

    def reopen(record: JobRecord) -> JobRecord:
        record = with_mark_of_older_version(record)
        return evolve(
            record,
            epoch=record.epoch + 1,
            failures=0,
            failed_on=NO_FAILURES,
            misfits=NO_MISFITS,
            deaths=0,
            error=None,
            control=Control(),
            timestamps=evolve(record.timestamps, finished=None),
            checkpoint=None if from_start else record.checkpoint,
            fallback=None if from_start else record.fallback,
            mark=HighWaterMark(seq=record.mark.seq)
            if from_start
            else evolve(record.mark, failed_resumes=0, fell_back=False),
            suspects=() if from_start else record.suspects,
            announced=None if from_start else record.announced,
            proven=None if from_start else record.proven,
            ran_s=0.0 if from_start else record.ran_s,
        )

    return moved(record, Trigger.RETRY, change=reopen)
