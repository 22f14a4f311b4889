"""Progress and remaining time of a job, estimated from its record."""

from typing import Final

from lifecycle.job_record import JobRecord, Progress
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED

LONGEST_S: Final = 1e10


def share_done(progress: Progress) -> float | None:
    """Return the share of the work that is done, from 0 to 1; None if the amount of work is unknown."""
    return progress.done / progress.total if progress.done is not None and progress.total else None


def eta_s(record: JobRecord) -> float | None:
    """Estimate the seconds from the record's last write to the job's end.

    Returns:
        The seconds, or None if the job does not run, its rate or amount of work is unknown, or that would be centuries.
    """
    progress = record.progress
    if record.state not in OWNED or not progress.rate or progress.done is None or not progress.total:
        return None
    left_s = max(progress.total - progress.done, 0) / progress.rate
    return left_s if 0 <= left_s <= LONGEST_S else None


def is_stale(stored: StoredRecord) -> bool:
    """Return True if the job has an owner whose lease has expired."""
    return stored.record.owner is not None and not stored.record.is_owned(stored.age_s)
