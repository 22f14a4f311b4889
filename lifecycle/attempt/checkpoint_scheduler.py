"""Snapshots of a running workload, and committing them once they are uploaded.

Runs in the thread that owns the machine.
"""

from typing import Final

from attrs import evolve

from lifecycle.attempt.events import Uploaded, UploadFailed
from lifecycle.attempt.outcome import OF_THE_FILES
from lifecycle.attempt.running import AttemptContext
from lifecycle.checkpoint.snapshot import Scan, Snapshot, capture_announced, capture_files, capture_output, scan
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.errors import TornSnapshotError, UnknownOutcomeError
from lifecycle.job_record import Backlog, CheckpointRef, JobRecord, iso
from lifecycle.machine import Change
from lifecycle.ports.runner import Announced, Report
from lifecycle.states import Facts, Trigger

RETRY_S: Final = 2.0  # between two tries to commit


class CheckpointScheduler:
    """The checkpoints of one attempt.

    Args:
        on: The attempt.
    """

    def __init__(self, on: AttemptContext) -> None:
        self._on = on
        committed = on.session.record.checkpoint
        self._seq = committed.seq if committed else 0
        self._last_good = on.resumed_from
        self._announces = False
        self._due_at = on.now() + on.launch.saving_interval.total_seconds()
        self._taken: Snapshot | None = None
        self._taken_at: dict[int, float] = {}
        self._uncommitted: tuple[Snapshot, UploadedCheckpoint] | None = None
        self._retry_at = 0.0
        self._seen: Scan = {}
        self._still_since = 0.0
        self._asked = False
        self._in_place: set[str] = set()
        self._backlog: Backlog | None = None
        self._failing_since: float | None = None
        self.commits = 0
        """Checkpoints committed by this attempt that went further than the one before."""
        self.left = 0
        """Snapshots that the workload left, but for those that were torn or held nothing new."""
        self.last: Uploaded | UploadFailed | None = None
        """What became of the snapshot that closes the attempt; None while it is being uploaded."""

    # ---- taking snapshots ----

    def take_if_due(self, report: Report) -> None:
        """Take what the workload announced; or, when the saving interval is over, ask it to save, or picture its files.

        Raises:
            OSError: This node's disk would not take it.
        """
        if report.announced:
            self._announces = True
            self._submit(self._announced(report.announced))
        elif self._on.now() >= self._due_at:
            if not self._asked:
                self._on.child.ask_to_save()
                self._asked = True
            if self._announces:
                self._be_due_again()
            else:
                self._take_when_quiet(report.done)

    def take_last(self, report: Report, *, trust_directory: bool) -> bool:
        """Take the newest consistent state of a workload that has ended, and submit it as the attempt's last.

        Args:
            report: Its last report.
            trust_directory: It saved and left by itself, so a program that announces nothing left its files whole.

        Returns:
            Whether there was anything to take.
        """
        snapshot = None
        if report.announced:
            snapshot = self._announced(report.announced)
        elif trust_directory and not self._announces and (seen := self._look()):
            snapshot = self._picture(seen, report.done)
        if snapshot is None:
            return False
        self.submit_last(evolve(snapshot, is_last=True))
        return True

    def take_output(self, report: Report) -> None:
        """Take the outputs of a workload that is done, and submit them as the attempt's last."""
        self.submit_last(capture_output(seq=self._next_seq(), step=report.done, dirs=self._on.launch.dirs))

    def submit_last(self, snapshot: Snapshot) -> None:
        """Submit *snapshot* as the attempt's last."""
        self.last = None
        self._submit(snapshot)

    def submit_last_again(self, failed: Snapshot) -> None:
        """The same with one that *failed* to upload; under a new number: its manifest may still be on its way."""
        self.submit_last(evolve(failed, seq=self._next_seq()))

    def on_entered_checkpointing(self) -> None:
        """The hook of entering `checkpointing` with a new snapshot: put it on the uploader's local queue."""
        if self._taken:
            self._on.uploader.submit(self._taken)

    def _submit(self, snapshot: Snapshot) -> None:
        self._be_due_again()
        self._taken = snapshot
        self.left += 1
        self._taken_at[snapshot.seq] = self._on.now()
        since = self._backlog.since if self._backlog else iso(self._on.context.clock.now())
        self._note_backlog(Backlog(snapshot.bytes, since))
        self._on.machine.fire(Trigger.CHECKPOINT)

    def _announced(self, announced: Announced) -> Snapshot:
        launch = self._on.launch
        return capture_announced(announced, launch.workload, seq=self._next_seq(), dirs=launch.dirs)

    def _take_when_quiet(self, step: int | None) -> None:
        """Picture the files of a program that announces nothing, once they have not changed for a while."""
        now, workload = self._on.now(), self._on.launch.workload
        seen = self._look()
        if not seen:
            self._be_due_again()
        elif seen != self._seen and workload.quiet:
            self._seen, self._still_since = seen, now
            if now - self._due_at > self._on.launch.saving_interval.total_seconds():
                self._on.event_log.write("no_snapshot", why=f"its files were never still for {workload.quiet}")
                self._be_due_again()
        elif now - self._still_since >= workload.quiet.total_seconds():
            self._submit_picture(self._picture(seen, step))

    def _submit_picture(self, picture: Snapshot | None) -> None:
        if picture:
            self._submit(picture)
        else:  # something changed at this very moment: look again
            self._seen = {}

    def _look(self) -> Scan:
        return scan(self._on.launch.dirs, self._on.launch.workload)

    def _picture(self, seen: Scan, step: int | None) -> Snapshot | None:
        launch = self._on.launch
        return capture_files(
            seen, launch.workload, seq=self._next_seq(), step=step, dirs=launch.dirs, in_place=self._in_place
        )

    def _be_due_again(self, *, in_s: float | None = None) -> None:
        wait_s = self._on.launch.saving_interval.total_seconds() if in_s is None else in_s
        self._due_at = self._on.now() + wait_s
        self._asked = False

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _note_backlog(self, backlog: Backlog | None) -> None:
        self._backlog = backlog
        self._on.session.note("backlog", lambda record: evolve(record, backlog=backlog))

    # ---- committing them ----

    def heard(self, event: Uploaded | UploadFailed) -> None:
        """Take in what the uploader says; what is uploaded is due to be committed then.

        Raises:
            LeaseLostError: Another epoch owns the job.
            OSError: The workload has left files that cannot be read, here or anywhere.
        """
        if _is_nothing(event):
            self.left -= 1
        if event.snapshot.is_last:
            self.last = event
        elif isinstance(event, UploadFailed):
            self._on.event_log.write("upload_failed", seq=event.snapshot.seq, error=str(event.error))
            self._abandon(event.snapshot)
            if isinstance(event.error, TornSnapshotError):
                self._retake(event.error)
            elif isinstance(event.error, OSError) and event.error.errno in OF_THE_FILES:
                raise event.error
            else:
                self._failing_since = self._failing_since or self._on.now()
        elif event.saved is None:
            self._note_backlog(None)
            self._abandon(event.snapshot)
        else:
            self._uncommitted = (event.snapshot, event.saved)

    def _retake(self, torn: TornSnapshotError) -> None:
        """Take another snapshot soon, copying the files that were written to in place; but not after a failed check."""
        if torn.paths:
            self._in_place.update(torn.paths)
            self._be_due_again(in_s=0.0)

    @property
    def failing_s(self) -> float:
        """Seconds for which every upload has failed; 0 if the last one did not."""
        return self._on.now() - self._failing_since if self._failing_since else 0.0

    def commit_if_due(self) -> None:
        """Commit what is uploaded; again after a while, if it is not known whether that succeeded.

        Raises:
            LeaseLostError: Another epoch owns the job.
        """
        if self._uncommitted is None or self._on.now() < self._retry_at:
            return
        snapshot, saved = self._uncommitted
        further = self._goes_further(saved.ref)
        try:
            change = self._pointing_at(saved.ref, further=further)
            self._on.machine.fire(Trigger.COMMIT, facts=self._facts(snapshot), change=change)
        except UnknownOutcomeError as error:
            self._retry_at = self._on.now() + RETRY_S
            self._on.event_log.write("commit_unknown", seq=snapshot.seq, error=str(error))
            return
        self._uncommitted = None
        self._count(saved, further=further)
        self._on.uploader.committed()

    def commit_with_ending(self, saved: UploadedCheckpoint) -> Change:
        """The change that commits *saved* together with the attempt's last state."""
        further = self._goes_further(saved.ref)
        change = self._pointing_at(saved.ref, further=further)
        self._count(saved, further=further)
        return change

    def _pointing_at(self, ref: CheckpointRef, *, further: bool) -> Change:
        now = iso(self._on.context.clock.now())
        committed, fallback, commits = evolve(ref, at=now), self._last_good, self.commits + further
        newer = self._taken if self._taken and self._taken.seq > ref.seq else None
        self._note_backlog(Backlog(newer.bytes, now) if newer else None)

        def point(record: JobRecord) -> JobRecord:
            pointed = evolve(record, checkpoint=committed, fallback=fallback).with_attempt(commits=commits)
            return evolve(pointed, failures=0, deaths=0) if further else pointed

        return point

    def _count(self, saved: UploadedCheckpoint, *, further: bool) -> None:
        ref = self._last_good = evolve(saved.ref, at=iso(self._on.context.clock.now()))
        self._failing_since = None
        self.commits += further
        took_s = round(self._on.now() - self._taken_at[ref.seq], 3)
        self._taken_at = {seq: at for seq, at in self._taken_at.items() if seq > ref.seq}
        facts = {"seq": ref.seq, "step": ref.step, "bytes": ref.bytes, "sent": ref.sent, "took_s": took_s}
        self._on.event_log.write("checkpoint", **facts)

    def _goes_further(self, ref: CheckpointRef) -> bool:
        before = self._last_good
        return before is None or before.step is None or ref.step is None or ref.step > before.step

    def _abandon(self, snapshot: Snapshot) -> None:
        snapshot.discard()
        self._on.machine.fire(Trigger.ABANDON, facts=self._facts(snapshot))

    def _facts(self, snapshot: Snapshot) -> Facts:
        return Facts(waiting=self._taken is not None and self._taken.seq > snapshot.seq)


def _is_nothing(event: Uploaded | UploadFailed) -> bool:
    """Whether it turned out that the snapshot brings the job no further."""
    return isinstance(event.error, TornSnapshotError) if isinstance(event, UploadFailed) else event.saved is None
