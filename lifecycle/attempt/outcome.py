"""The outcomes of an attempt, and its last write to the record."""

import errno
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from attrs import evolve, frozen

from lifecycle.errors import NewerManifestError, PermanentError, reason_of
from lifecycle.evidence import Misfit
from lifecycle.job_record import CheckpointRef, JobRecord, iso
from lifecycle.limits import Limits
from lifecycle.machine import Change, unchanged
from lifecycle.record.blame import (
    Failure,
    fits_nowhere,
    is_exhausted,
    wait_for_another_machine,
    with_failure,
    with_misfit,
)
from lifecycle.states import Trigger

FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(minutes=15)
MISFIT: Final = "misfit"
MISFIT_DELAY: Final = timedelta(seconds=5)  # the message is hidden from nodes that fit, too
MISFIT_MEMORY: Final = timedelta(minutes=10)  # then the node tries again: its disk may have room by then
LONGEST_MISFIT_DELAY: Final = timedelta(minutes=1)
MOST_DOUBLINGS: Final = 10  # more would overflow, and the delay is at its longest by then
UNREADABLE_DELAY: Final = timedelta(seconds=15)
NEWER_DELAY: Final = timedelta(minutes=2)  # for a newer worker to take the job
WORKLOAD_FAILED: Final = "workload_failed"
HOLDFAST_FAILED: Final = "holdfast_failed"
FAILURES: Final = frozenset({WORKLOAD_FAILED, HOLDFAST_FAILED})
"""Outcomes that are counted as failures, and not as interruptions."""
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
        elsewhere_for: How long this machine leaves the job to others.
        against_node: What it says about the node: True if a job failed here without getting further, and on no other
            machine; False if a job got further here; None if it says nothing.
    """

    trigger: Trigger
    cause: str
    error: str | None = None
    delay: timedelta = timedelta(0)
    change: Change = unchanged
    commits_last: bool = False
    wants_new_node: bool = False
    elsewhere_for: timedelta = timedelta(0)
    against_node: bool | None = None


def after_failure(
    record: JobRecord, limits: Limits, failure: Failure, *, error: str, cause: str = WORKLOAD_FAILED
) -> Outcome:
    """Return the outcome of an attempt that failed: another try after a growing delay, or no more.

    Args:
        record: The record as it stands, with all that the attempt commits.
        limits: Holds the number of tries.
        failure: The failure.
        error: What the workload reported.
        cause: The attempt's outcome in one word.
    """

    def count(latest: JobRecord) -> JobRecord:
        return with_failure(latest, limits, failure)

    counted = count(record)
    failures = counted.failures
    falls_back = counted.mark.fell_back and not record.mark.fell_back  # which is tried first, and at once
    against_node = False if failure.progressed else (counted.failed_on.machines == (failure.machine,)) or None
    if not falls_back and is_exhausted(counted, limits):
        reason = f"failed {failures} times in a row without a new checkpoint; the last time: {error}"
        return Outcome(Trigger.FAIL, cause, error=reason, change=count, against_node=against_node)
    if falls_back and record.checkpoint:
        error = f"{_given_up(record.checkpoint, counted.checkpoint)}; the last failure: {error}"
    delay = min(FIRST_DELAY * 2 ** min(max(failures - 1, 0), MOST_DOUBLINGS), LONGEST_DELAY)
    elsewhere_for = timedelta(0) if falls_back else wait_for_another_machine(counted, limits)
    return Outcome(
        Trigger.RELEASE,
        cause,
        error=error,
        delay=delay,
        change=count,
        elsewhere_for=elsewhere_for,
        against_node=against_node,
    )


def _given_up(suspect: CheckpointRef, fallback: CheckpointRef | None) -> str:
    where = f"checkpoint {fallback.seq}" if fallback else "the input"
    return f"checkpoint {suspect.seq} is given up as useless, and the job goes on from {where}"


def of_misfit(record: JobRecord, limits: Limits, misfit: Misfit) -> Outcome:
    """Return the outcome of an attempt on a node that cannot run the job: left to others, for as long as that is hoped.

    Args:
        record: The record as it stands.
        limits: Holds the patience.
        misfit: The node, and what it lacks.
    """
    noted = with_misfit(record, misfit)
    change = partial(with_misfit, misfit=misfit)
    if fits_nowhere(noted, limits):
        error = f"no node could run it for {limits.misfit_patience}: {noted.misfits.summary}"
        return Outcome(Trigger.FAIL, MISFIT, error=error, change=change)
    error = f"waits for a node that can run it: {noted.misfits.summary}"
    return Outcome(Trigger.RELEASE, MISFIT, error=error, delay=MISFIT_DELAY, change=change, elsewhere_for=MISFIT_MEMORY)


def of_disk(error: OSError) -> Outcome:
    """Return the outcome of an attempt whose node's disk or system failed: another node takes the job."""
    what = SHORTAGES.get(error.errno or 0, "this node's disk fails")
    return Outcome(Trigger.RELEASE, "node_unfit", error=f"{what}: {reason_of(error)}", wants_new_node=True)


def not_ready(error: Exception) -> Outcome:
    """Return the outcome of an attempt that could not be staged: invalid, or to be tried elsewhere, or later."""
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
        commits: Checkpoints committed that went further than any before.
    """

    began: JobRecord
    useful_s: float = 0.0
    steps: int = 0
    commits: int = 0


def finalize(outcome: Outcome, totals: AttemptTotals, now: datetime) -> Change:
    """Return the last write of an attempt: the outcome's own change, the totals, and the end of ownership."""
    interrupted = outcome.trigger in {Trigger.RELEASE, Trigger.PAUSE} and outcome.cause not in FAILURES
    began = totals.began
    interruptions = began.with_interruption(outcome.cause).interruptions if interrupted else began.interruptions
    is_over = outcome.trigger in {Trigger.COMPLETE, Trigger.FAIL, Trigger.CANCEL}

    def close(record: JobRecord) -> JobRecord:
        is_written = record.attempts[-1].ended is not None  # then its change is applied, and must not be once more
        changed = (record if is_written else outcome.change(record)).with_attempt(
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
