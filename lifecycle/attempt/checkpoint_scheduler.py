"""The checkpoint scheduler: takes snapshots of a running workload, and commits them once they are uploaded.

Runs in the thread that owns the machine.
"""

from typing import Final

from attrs import evolve

from lifecycle.attempt.events import Uploaded, UploadFailed
from lifecycle.attempt.file_captures import Captured, FileCaptures, NotCaptured
from lifecycle.attempt.outcome import PORTABLE_ERRNOS
from lifecycle.attempt.phases import RunningJob
from lifecycle.attempt.resumption import Resumption
from lifecycle.attempt.saving_report import SavingReport, Topic
from lifecycle.checkpoint.capture import (
    capture_announced,
    capture_files,
    capture_output,
    ensure_directories,
)
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.patterns import compiled
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.survey import scan
from lifecycle.checkpoint.tree import LinkedDirectoryError
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.errors import HoldfastError, RewrittenFileError, TornSnapshotError, UnknownOutcomeError, reason_of
from lifecycle.job_record import Backlog, CheckpointRef, iso
from lifecycle.machine import Change
from lifecycle.ports.runner import SETTLED, Announced, Report
from lifecycle.record.usability import Commit, passes, with_commit
from lifecycle.states import Facts, State, Trigger

RETRY_S: Final = 2.0  # between two tries to commit
LONG_FREEZE_S: Final = 1.0  # is reported
LONG_FREEZE: Final = (
    "the program was stopped for {:.1f} s to copy what it writes in place: replace such files by renaming, or announce"
    " checkpoints"
)
NOT_ANNOUNCED: Final = "the program has announced checkpoints before, and announces none although it was asked to"
LATE: Final = "a snapshot waits to be uploaded: save less often, or allow more than UPLOAD_LIMIT"
NAMED: Final = 20  # entries that an event names


class CheckpointScheduler:
    """The checkpoints of one attempt.

    Args:
        running: The running job.
    """

    def __init__(self, running: RunningJob) -> None:
        self._running = running
        self._claimed = running.claimed
        self._launch = running.staged.launch
        self._interval_s = self._launch.saving_interval.total_seconds()
        record, restored = self._claimed.session.record, running.staged.restored
        self._seq = max(record.mark.seq, record.checkpoint.seq if record.checkpoint else 0)
        self._last_good = restored.ref if restored else None
        self._resumption = Resumption.of(record, restored)
        self._began = self._claimed.now()
        before = restored.base.manifest if restored else None
        self.quality = before.quality if before else None
        """Quality of the last checkpoint; None if there is none, or it is not known."""
        self._announces = False
        self._has_announced = before is not None and before.announces
        self._in_place = set(before.in_place if before else ())
        self._files = FileCaptures(
            running, self._in_place, next_seq=self._next_seq, was_frozen=self.quality is Quality.FROZEN
        )
        self._saving = SavingReport(self._claimed)
        self._unanswered = 0  # requests for a checkpoint
        self._due_at = self._claimed.now() + self._interval_s
        self._newest: Snapshot | None = None
        self._taken_at: dict[int, float] = {}
        self._uncommitted: tuple[Snapshot, Commit, bool] | None = None
        self._retry_at = 0.0
        self._asked = False
        self._skipped: tuple[str, ...] = ()
        self._announcement: int | None = None
        self._backlog: Backlog | None = None
        self._waiting_since: float | None = None
        self._is_late = False
        self._failing_since: float | None = None
        self.commits = 0
        """Checkpoints committed by this attempt that went further than any before."""
        self.restarted: str | None = None
        """Why the attempt is taken not to have loaded its checkpoint; None if it is not."""
        self.left = 0
        """Snapshots that the workload left, except for those that were torn or held nothing new."""
        self.is_closing = False
        """Whether a failed upload of the newest snapshot is tried again as the last, because none is taken any more."""
        self.last: Uploaded | UploadFailed | None = None
        """Result of uploading the snapshot that closes the attempt; None while it is being uploaded."""

    # ---- taking snapshots ----

    def take_if_due(self, report: Report) -> None:
        """Take the announced checkpoint, if any; or, once the saving interval is over, ask for one and capture.

        If files cannot be listed or read, the event log says so, and the next try is due after a saving interval.

        Raises:
            LinkedDirectoryError: One of the job's directories has become a link.
            OSError: The node's disk refused the snapshot.
        """
        self._watch_backlog()
        try:
            self._take_if_due(report)
        except OSError as error:
            self._skip(error)

    def _take_if_due(self, report: Report) -> None:
        if report.announced and report.announced.number != self._announcement:
            self._announces = self._has_announced = True
            self._files.discard()
            self._unanswered = 0
            self._announcement = report.announced.number  # a second try would find the same
            self._submit(self._take_announced(report.announced))
        elif self._claimed.now() >= self._due_at:
            ensure_directories(self._launch.dirs)
            if not self._asked:
                self._running.child.ask_to_save()
                self._asked = True
                self._unanswered += 1
            if self._has_announced:
                if self._unanswered > 1:
                    self._saving.note(Topic.CAPTURE, NOT_ANNOUNCED)
                self._schedule_next(self._interval_s)
            else:
                self._take_files(report.done)

    @property
    def is_uploading(self) -> bool:
        """Whether a snapshot is taken and neither committed nor given up."""
        return self._claimed.machine.state is State.CHECKPOINTING

    def take_last(self, report: Report, *, with_directory: bool) -> bool:
        """Take the newest consistent state of a workload that has ended, and submit it as the attempt's last snapshot.

        Args:
            report: The workload's last report.
            with_directory: Whether to capture the files of a program that has announced nothing in this attempt. If the
                job has announced before, they count only if the program has saved and exited.

        Returns:
            Whether there was anything to take that can be read.

        Raises:
            LinkedDirectoryError: One of the job's directories has become a link.
            OSError: The node's disk refused the snapshot.
        """
        snapshot = None
        self._files.discard()
        try:
            if report.announced:
                snapshot = self._take_announced(report.announced)
            elif with_directory and not self._announces:
                snapshot = self._capture_left(report)
        except OSError as error:
            self._skip(error)
        if snapshot is None:
            return False
        self.submit_last(evolve(snapshot, is_last=True))
        return self.restarted is None

    def _capture_left(self, report: Report) -> Snapshot | None:
        """Capture the files of a program that announces nothing and has exited."""
        ensure_directories(self._launch.dirs)
        quality, files = self._quality_left(report), scan(self._launch.dirs, self._launch.workload, self._in_place)
        if not files or (quality is Quality.FROZEN and self._has_announced):
            return None
        return capture_files(
            files,
            self._launch.workload,
            quality,
            seq=self._next_seq(),
            step=report.done,
            dirs=self._launch.dirs,
            in_place=self._in_place,
        )

    def _quality_left(self, report: Report) -> Quality:
        """Return what the files of a program that has ended are worth."""
        exited = report.exited
        if exited and self._launch.workload.meaning(exited.code) in SETTLED and not exited.writing:
            return Quality.EXITED
        return Quality.FROZEN

    def _skip(self, error: OSError) -> None:
        """Do without a checkpoint whose files cannot be listed or read: that may change, and the job can run on."""
        if error.errno not in PORTABLE_ERRNOS or isinstance(error, LinkedDirectoryError):
            raise error
        self._go_without(str(error))

    def capture_output(self, report: Report) -> None:
        """Take the outputs of a workload that is done, and submit them as the attempt's last snapshot.

        Raises:
            OSError: They cannot be listed, or the node's disk refused the snapshot.
        """
        ensure_directories(self._launch.dirs)
        self.submit_last(capture_output(seq=self._next_seq(), step=report.done, dirs=self._launch.dirs))

    def submit_last(self, snapshot: Snapshot) -> None:
        """Submit *snapshot* as the attempt's last."""
        self.last = None
        self._submit(snapshot)

    def submit_last_again(self, failed: Snapshot) -> None:
        """Submit the last snapshot again, under a new number: the manifest of the failed try may still arrive."""
        self.submit_last(evolve(failed, seq=self._next_seq()))

    def _submit(self, snapshot: Snapshot) -> None:
        self._schedule_next(self._interval_s)
        self.restarted = self._resumption.restart_reason(snapshot)
        if self.restarted:
            snapshot.discard()
            return
        self._newest = snapshot
        self.left += 1
        self._report_skipped(snapshot)
        self._taken_at[snapshot.seq] = self._claimed.now()
        since = self._backlog.since if self._backlog else iso(self._claimed.context.clock.now())
        self._note_backlog(Backlog(snapshot.bytes, since))
        self._claimed.machine.fire(Trigger.CHECKPOINT, snapshot=snapshot)

    def _report_skipped(self, snapshot: Snapshot) -> None:
        """Name what cannot be saved: once, and again when it changes."""
        if snapshot.skipped and snapshot.skipped != self._skipped:
            named = list(snapshot.skipped[:NAMED])
            self._claimed.event_log.write("skipped_entries", entries=named, count=len(snapshot.skipped))
            self._saving.note(Topic.SKIPPED, f"{len(snapshot.skipped)} entries cannot be saved, such as {named[0]}")
        if not snapshot.skipped:
            self._saving.note(Topic.SKIPPED, None)
        self._skipped = snapshot.skipped

    def _take_announced(self, announced: Announced) -> Snapshot:
        ensure_directories(self._launch.dirs)
        return capture_announced(
            announced, self._launch.workload, seq=self._next_seq(), dirs=self._launch.dirs, in_place=self._in_place
        )

    def _take_files(self, step: int | None) -> None:
        """Capture the files of a program that announces nothing, if that is possible now."""
        match self._files.try_now(due_at=self._due_at, step=step):
            case Captured(snapshot, frozen_s, tries):
                if tries:
                    self._claimed.event_log.write("frozen", seconds=round(frozen_s, 3), tries=tries)
                self._saving.note(Topic.FREEZE, LONG_FREEZE.format(frozen_s) if frozen_s > LONG_FREEZE_S else None)
                self._submit(snapshot)
            case NotCaptured(why):
                self._go_without(why)

    def _go_without(self, why: str) -> None:
        """Report why there is no snapshot; the next try is due after a saving interval."""
        self._claimed.event_log.write("no_snapshot", why=why)
        self._saving.note(Topic.CAPTURE, why)
        self._schedule_next(self._interval_s)

    def _watch_backlog(self) -> None:
        """Report a snapshot that has waited for two saving intervals to be committed."""
        is_late = self._waiting_since is not None and self._claimed.now() - self._waiting_since > 2 * self._interval_s
        if is_late != self._is_late:
            self._is_late = is_late
            self._saving.note(Topic.UPLOAD, LATE if is_late else None)

    def _schedule_next(self, wait_s: float) -> None:
        self._due_at = self._claimed.now() + wait_s
        self._asked = False

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _note_backlog(self, backlog: Backlog | None) -> None:
        if backlog is None:
            self._waiting_since = None
        elif self._backlog is None or self._backlog.since != backlog.since:
            self._waiting_since = self._claimed.now()
        self._backlog = backlog
        self._claimed.session.note("backlog", lambda record: evolve(record, backlog=backlog))

    # ---- committing them ----

    def on_upload_ended(self, event: Uploaded | UploadFailed) -> None:
        """Take in the result of an upload; a successful one is committed by the next `commit_if_due`.

        Raises:
            LeaseLostError: Another epoch owns the job.
        """
        event = _without_file_error(event)
        if _brought_nothing(event):
            self.left -= 1
        if event.snapshot.is_last:
            self.last = event
        elif isinstance(event, UploadFailed) and self._is_to_close(event):
            self.last = evolve(event, snapshot=evolve(event.snapshot, is_last=True))
        elif isinstance(event, UploadFailed):
            self._claimed.event_log.write("upload_failed", seq=event.snapshot.seq, error=str(event.error))
            self._abandon(event.snapshot)
            if isinstance(event.error, TornSnapshotError):
                self._retake(event.error)
            else:
                self._saving.note(Topic.UPLOAD, f"uploads fail: {event.error}")
                self._failing_since = self._failing_since or self._claimed.now()
        elif event.saved is None:
            self._saving.note_saved()
            self._note_backlog(None)
            self._abandon(event.snapshot)
        else:
            commit = self._commit_of(event.saved)
            self._uncommitted = (event.snapshot, commit, self._goes_further(commit))

    def _is_to_close(self, failed: UploadFailed) -> bool:
        """Return whether a snapshot whose upload failed is the last that this attempt can save."""
        is_newest = self._newest is not None and self._newest.seq == failed.snapshot.seq
        return (
            self.is_closing
            and is_newest
            and isinstance(failed.error, HoldfastError)
            and not isinstance(failed.error, TornSnapshotError)
        )

    def _retake(self, torn: TornSnapshotError) -> None:
        """Take another snapshot soon, copying the files that were written in place; but not after a failed check."""
        if torn.paths:
            self._note_in_place(torn)
            self._schedule_next(0.0)
        else:
            self._saving.note(Topic.CAPTURE, str(torn))

    def _note_in_place(self, torn: TornSnapshotError) -> None:
        """Copy files that were written to, from now on; of those that are said to grow, only if they do not."""
        grows = compiled(self._launch.workload.growing).fullmatch
        known = isinstance(torn, RewrittenFileError)
        if known and not self._in_place.issuperset(torn.paths):
            self._claimed.event_log.write("not_growing", files=list(torn.paths[:NAMED]))
        self._in_place.update(path for path in torn.paths if known or not grows(path))

    @property
    def failing_s(self) -> float:
        """Seconds for which every upload has failed; 0 if the last one did not."""
        return self._claimed.now() - self._failing_since if self._failing_since else 0.0

    def commit_if_due(self) -> None:
        """Commit what is uploaded; again after a while, if it is not known whether that succeeded.

        Raises:
            LeaseLostError: Another epoch owns the job.
        """
        if self._uncommitted is None or self._claimed.now() < self._retry_at:
            return
        snapshot, commit, further = self._uncommitted
        try:
            change = self._committing(commit, further=further)
            self._claimed.machine.fire(Trigger.COMMIT, facts=self._facts(snapshot), change=change)
        except UnknownOutcomeError as error:
            self._retry_at = self._claimed.now() + RETRY_S
            self._claimed.event_log.write("commit_unknown", seq=snapshot.seq, error=str(error))
            return
        self._uncommitted = None
        self._count(commit.ref, further=further)

    def commit_with_outcome(self, saved: UploadedCheckpoint) -> Change:
        """Return the change that commits *saved* together with the attempt's last state."""
        commit = self._commit_of(saved)
        further = self._goes_further(commit)
        change = self._committing(commit, further=further)
        self._count(commit.ref, further=further)
        return change

    def _commit_of(self, saved: UploadedCheckpoint) -> Commit:
        at, after_s = iso(self._claimed.context.clock.now()), self._taken_at[saved.ref.seq] - self._began
        return self._resumption.commit(saved, fallback=self._last_good, at=at, after_s=after_s)

    def _committing(self, commit: Commit, *, further: bool) -> Change:
        commits, ref = self.commits + further, commit.ref
        newer = self._newest if self._newest and self._newest.seq > ref.seq else None
        self._note_backlog(Backlog(newer.bytes, ref.at or "") if newer else None)
        return lambda record: with_commit(record, commit).with_attempt(commits=commits)

    def _count(self, ref: CheckpointRef, *, further: bool) -> None:
        self._last_good = ref
        self.quality = Quality(ref.quality) if ref.quality else None
        self._failing_since = None
        self._saving.note_saved()
        self.commits += further
        took_s = round(self._claimed.now() - self._taken_at[ref.seq], 3)
        self._taken_at = {seq: at for seq, at in self._taken_at.items() if seq > ref.seq}
        facts = {"seq": ref.seq, "step": ref.step, "bytes": ref.bytes, "sent": ref.sent, "took_s": took_s}
        self._claimed.event_log.write("checkpoint", **facts)

    def _goes_further(self, commit: Commit) -> bool:
        return passes(self._claimed.session.record.mark, commit.ref)

    def _abandon(self, snapshot: Snapshot) -> None:
        self._claimed.machine.fire(Trigger.ABANDON, facts=self._facts(snapshot), snapshot=snapshot)

    def _facts(self, snapshot: Snapshot) -> Facts:
        return Facts(newer_waiting=self._newest is not None and self._newest.seq > snapshot.seq)


def _without_file_error(event: Uploaded | UploadFailed) -> Uploaded | UploadFailed:
    """Return *event*; if files of a checkpoint could not be read, as that of a snapshot that must not be committed."""
    error = event.error if isinstance(event, UploadFailed) else None
    if isinstance(error, OSError) and error.errno in PORTABLE_ERRNOS and not event.snapshot.is_result:
        return UploadFailed(event.snapshot, TornSnapshotError(f"it cannot be read: {reason_of(error)}"))
    return event


def _brought_nothing(event: Uploaded | UploadFailed) -> bool:
    """Return whether the snapshot turned out to bring the job no further."""
    return isinstance(event.error, TornSnapshotError) if isinstance(event, UploadFailed) else event.saved is None
