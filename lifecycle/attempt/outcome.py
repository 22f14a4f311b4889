"""The outcomes of an attempt, and its last write to the record."""

import errno
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve, frozen

from lifecycle.errors import MisfitError, NewerManifestError, PermanentError, reason_of
from lifecycle.job_record import JobRecord, iso
from lifecycle.limits import Limits
from lifecycle.machine import Change, unchanged
from lifecycle.states import Trigger

FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(minutes=15)
MISFIT_DELAY: Final = timedelta(seconds=30)  # the message is hidden from nodes that fit, too
UNREADABLE_DELAY: Final = timedelta(seconds=15)
NEWER_DELAY: Final = timedelta(minutes=2)  # for a newer worker to take the job
KEPT_ERROR: Final = 4096  # characters of an error kept in the record
SHORTAGES: Final[Mapping[int, str]] = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "too many files are open in the worker; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this node; raise fs.file-max",
    errno.ENOMEM: "this node is out of memory",
}
"""What a node that fails a call lacks, by error number; any other number means that its disk fails."""
PORTABLE_ERRNOS: Final = frozenset(
    {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
)
"""Errors that lie in the files and not in the disk: another node would meet them too."""


@frozen
class Outcome:
    """The end of an attempt.

    Attributes:
        trigger: The transition to make.
        cause: The attempt's outcome in one word, as the record counts it.
        error: What went wrong, for people; None if nothing did.
        delay: For RELEASE, how long the queue hides the message.
        change: What else the last write does: point at the last checkpoint, or at the result.
        commits_last: Whether *change* commits the snapshot that closes the attempt.
        wants_new_node: Whether the node is unfit and should be replaced.
    """

    trigger: Trigger
    cause: str
    error: str | None = None
    delay: timedelta = timedelta(0)
    change: Change = unchanged
    commits_last: bool = False
    wants_new_node: bool = False


def after_failure(record: JobRecord, limits: Limits, *, error: str, progressed: bool) -> Outcome:
    """Return the outcome of an attempt whose workload failed: another try after a growing delay, or no more.

    Args:
        record: The record as it stands.
        limits: Holds the number of tries.
        error: What the workload reported.
        progressed: Whether the attempt committed a checkpoint that goes further than the one before.
    """
    failures = 0 if progressed else record.failures + 1

    def count(latest: JobRecord) -> JobRecord:
        return evolve(latest, failures=failures)

    if failures >= limits.max_failures:
        reason = f"failed {failures} times in a row without a new checkpoint; the last time: {error}"
        return Outcome(Trigger.FAIL, "workload_failed", error=reason, change=count)
    delay = min(FIRST_DELAY * 2 ** max(failures - 1, 0), LONGEST_DELAY)
    return Outcome(Trigger.RELEASE, "workload_failed", error=error, delay=delay, change=count)


def of_disk(error: OSError) -> Outcome:
    """Return the outcome of an attempt whose node's disk or system failed: another node takes the job."""
    what = SHORTAGES.get(error.errno or 0, "this node's disk fails")
    return Outcome(Trigger.RELEASE, "node_unfit", error=f"{what}: {reason_of(error)}", wants_new_node=True)


def not_ready(error: Exception) -> Outcome:
    """Return the outcome of an attempt that could not be staged: invalid, or to be tried elsewhere, or later."""
    if isinstance(error, MisfitError):
        return Outcome(Trigger.RELEASE, "misfit", error=str(error), delay=MISFIT_DELAY)
    if isinstance(error, PermanentError):
        return Outcome(Trigger.FAIL, "invalid", error=str(error))
    if isinstance(error, OSError):
        return of_disk(error)
    delay = NEWER_DELAY if isinstance(error, NewerManifestError) else UNREADABLE_DELAY
    return Outcome(Trigger.RELEASE, "unreadable", error=str(error), delay=delay)


@frozen
class AttemptTotals:
    """Totals of an attempt, for its summary in the record.

    Attributes:
        began: The record as the attempt claimed it.
        useful_s: Seconds for which the workload ran.
        steps: Steps done.
        commits: Checkpoints committed that went further than the one before.
    """

    began: JobRecord
    useful_s: float = 0.0
    steps: int = 0
    commits: int = 0


def finalize(outcome: Outcome, totals: AttemptTotals, now: datetime) -> Change:
    """Return the last write of an attempt: the outcome's own change, the totals, and the end of ownership."""
    interrupted = outcome.trigger in {Trigger.RELEASE, Trigger.PAUSE} and outcome.cause != "workload_failed"
    began = totals.began
    interruptions = began.with_interruption(outcome.cause).interruptions if interrupted else began.interruptions
    is_over = outcome.trigger in {Trigger.COMPLETE, Trigger.FAIL, Trigger.CANCEL}

    def close(record: JobRecord) -> JobRecord:
        changed = outcome.change(record).with_attempt(
            ended=iso(now),
            outcome=outcome.cause,
            useful_s=round(totals.useful_s, 3),
            steps=totals.steps,
            commits=totals.commits,
        )
        return evolve(
            changed,
            owner=None,
            backlog=None,
            saving=None,
            ran_s=round(began.ran_s + totals.useful_s, 3),
            error=outcome.error[:KEPT_ERROR] if outcome.error else None,
            interruptions=interruptions,
            timestamps=evolve(changed.timestamps, finished=iso(now) if is_over else None),
        )

    return close
