"""Usable checkpoints: the high-water mark of a job, suspicion against a checkpoint, and the fallback to the one before.

A checkpoint can have the right bytes and still be useless, for example if the program was killed between writing two
files that belong together. A program that fails twice after resuming from it, without getting further than the job
ever was, makes it suspect, and the one before is used. Each high-water mark grants one such fallback, so a job that
always fails at the same place comes to its end (docs/adr/0028).
"""

from typing import Final

from attrs import evolve, frozen

from lifecycle.evidence import NO_FAILURES, HighWaterMark
from lifecycle.job_record import CheckpointRef, JobRecord, Result

RESUMES: Final = 2
"""Failed resumes from a checkpoint that make it suspect: one may be chance."""
KEPT_SUSPECTS: Final = 10


def passes(mark: HighWaterMark, ref: CheckpointRef) -> bool:
    """Return whether *ref* preserves more than any checkpoint before it."""
    return mark.is_passed_by(ref.step, ref.computed_s or 0.0)


def goes_beyond(ref: CheckpointRef, other: CheckpointRef) -> bool:
    """Return whether *ref* preserves more than *other*."""
    return HighWaterMark(step=other.step, computed_s=other.computed_s or 0.0).is_passed_by(
        ref.step, ref.computed_s or 0.0
    )


@frozen
class Commit:
    """An uploaded checkpoint that is to be committed.

    Attributes:
        ref: The checkpoint.
        fallback: The checkpoint that it is built on; None if there is none.
        resumed_from: The checkpoint that the attempt resumed from; None if it started from the input.
        is_announced: Whether the program announced it.
    """

    ref: CheckpointRef
    fallback: CheckpointRef | None = None
    resumed_from: CheckpointRef | None = None
    is_announced: bool = False


def with_commit(record: JobRecord, commit: Commit) -> JobRecord:
    """Return *record* with the checkpoint of *commit*.

    Only a commit beyond the high-water mark forgets failures, lost attempts and suspicions. Applying it twice has no
    further effect.
    """
    ref, mark = commit.ref, record.mark
    is_same = record.checkpoint is not None and record.checkpoint.seq == ref.seq
    resumed_from = commit.resumed_from
    committed = evolve(
        record,
        checkpoint=ref,
        fallback=commit.fallback,
        announced=ref if commit.is_announced else record.announced,
        proven=resumed_from if resumed_from and goes_beyond(ref, resumed_from) else record.proven,
        mark=mark if is_same else evolve(mark, seq=max(mark.seq, ref.seq), failed_resumes=0),
    )
    if not passes(mark, ref):
        return committed
    moved = HighWaterMark(
        step=mark.step if ref.step is None else ref.step,
        computed_s=max(mark.computed_s, ref.computed_s or 0.0),
        seq=max(mark.seq, ref.seq),
    )
    return evolve(committed, mark=moved, suspects=(), failures=0, deaths=0, failed_on=NO_FAILURES)


def with_result(record: JobRecord, result: Result) -> JobRecord:
    """Return *record* with the result of a completed job: what was known against it does not matter any more."""
    return evolve(
        record,
        result=result,
        fallback=None,
        announced=None,
        proven=None,
        suspects=(),
        failures=0,
        deaths=0,
        failed_on=NO_FAILURES,
    )


def with_failed_resume(record: JobRecord) -> JobRecord:
    """Return *record* with one more failed resume from its checkpoint."""
    return evolve(record, mark=evolve(record.mark, failed_resumes=record.mark.failed_resumes + 1))


def can_fall_back(record: JobRecord) -> bool:
    """Return whether the fallback of the high-water mark is still to be tried."""
    return record.checkpoint is not None and not record.mark.fell_back


def fallen_back(record: JobRecord) -> JobRecord:
    """Return *record* with its checkpoint among the suspects and the one before in its place; else the input.

    A suspect stays in the bucket until the job gets further.
    """
    suspects = (*record.suspects, *([record.checkpoint] if record.checkpoint else ()))[-KEPT_SUSPECTS:]
    mark = evolve(record.mark, failed_resumes=0, fell_back=True)
    return evolve(record, checkpoint=record.fallback, fallback=None, suspects=suspects, mark=mark)


def with_checkpoint(record: JobRecord, ref: CheckpointRef, *, fallback: CheckpointRef | None) -> JobRecord:
    """Return *record* with an earlier checkpoint that an operator chose. What goes beyond that is progress."""
    seq = max(record.mark.seq, record.checkpoint.seq if record.checkpoint else 0, ref.seq)
    mark = HighWaterMark(step=ref.step, computed_s=ref.computed_s or 0.0, seq=seq)
    suspects = tuple(suspect for suspect in record.suspects if suspect != ref)
    return evolve(record, checkpoint=ref, fallback=fallback, mark=mark, suspects=suspects)


def with_mark_of_older_version(record: JobRecord) -> JobRecord:
    """Return *record* with the mark that its checkpoint stands for, if the version that committed it kept none."""
    ref = record.checkpoint
    if ref is None or record.mark.seq:
        return record
    computed_s = record.ran_s if ref.computed_s is None else ref.computed_s
    return evolve(record, mark=HighWaterMark(step=ref.step, computed_s=computed_s, seq=ref.seq))
