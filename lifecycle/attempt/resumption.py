"""The point that an attempt starts from: what it must not fall behind, and what its checkpoints preserve."""

from attrs import evolve, frozen

from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.restore import RestoredCheckpoint
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.record.usability import Commit


@frozen
class Resumption:
    """The point that an attempt starts from.

    Attributes:
        ref: The checkpoint that it resumes from; None if it starts from the input.
        lowest_step: Lowest step that the program can be at once it has loaded that checkpoint.
        computed_s: Computing time that the checkpoint preserves, in seconds.
    """

    ref: CheckpointRef | None
    lowest_step: int
    computed_s: float

    @classmethod
    def of(cls, record: JobRecord, restored: RestoredCheckpoint | None) -> "Resumption":
        """Return the point that an attempt at the job of *record* starts from, with *restored* in its directory."""
        if restored is None:
            return cls(None, 0, 0.0)
        known_s = restored.ref.computed_s
        return cls(restored.ref, _lowest_step(record, restored), record.ran_s if known_s is None else known_s)

    def restart_reason(self, snapshot: Snapshot) -> str | None:
        """Return why *snapshot* shows that the program began anew, though it was to resume; None if it does not."""
        if snapshot.is_result or snapshot.step is None or snapshot.step >= self.lowest_step:
            return None
        return (
            f"it was at step {snapshot.step} after it had resumed from step {self.lowest_step} or later: "
            "it did not load its checkpoint, or does not count its steps from the beginning of the job"
        )

    def commit(self, saved: UploadedCheckpoint, *, fallback: CheckpointRef | None, at: str, after_s: float) -> Commit:
        """Return the commit of an uploaded checkpoint.

        Args:
            saved: The checkpoint.
            fallback: The checkpoint that it is built on; None if there is none.
            at: Time, ISO 8601 UTC.
            after_s: Seconds of computing in this attempt before it was captured.
        """
        quality = saved.manifest.quality
        ref = evolve(
            saved.ref,
            at=at,
            computed_s=round(self.computed_s + after_s, 3),
            quality=quality.value if quality else None,
        )
        return Commit(ref, fallback=fallback, resumed_from=self.ref, is_announced=quality is Quality.ANNOUNCED)


def _lowest_step(record: JobRecord, restored: RestoredCheckpoint) -> int:
    """Return the lowest step that a program can be at once it has loaded *restored*.

    Only the step of an announced checkpoint is that of its files. Others may be older than the step that their program
    was at when they were captured, but they are newer than the checkpoint before.
    """
    if restored.base.manifest.quality is Quality.ANNOUNCED:
        return restored.ref.step or 0
    before = record.fallback if restored.ref == record.checkpoint else None
    return (before.step or 0) if before else 0
