"""Supervise a workload until it exits, is stopped, or loses its lease.

Runs in the thread that owns the machine. It looks at the workload, and at what the attempt's other threads announce, at
least once a tick.
"""

from datetime import timedelta
from typing import Final

from attrs import evolve

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.attempt.events import CancelAsked, DrainAsked, LeaseLost, ThreadDied, Uploaded, UploadFailed
from lifecycle.attempt.outcome import PORTABLE_ERRNOS, Outcome, after_failure, of_disk
from lifecycle.attempt.phases import RunningJob
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.errors import LeaseLostError, TornSnapshotError, reason_of
from lifecycle.job_record import Progress, Result
from lifecycle.limits import DELIVERY_LIMIT
from lifecycle.machine import Change, unchanged
from lifecycle.ports.runner import KILL_WAIT_S, Exit, ExitMeaning, Report
from lifecycle.record.blame import Failure
from lifecycle.record.usability import with_result
from lifecycle.states import Trigger

TICK_S: Final = 0.1
RETRY_S: Final = 2.0  # between two tries to upload what must not be lost
LEAVE_SHARE: Final = 0.9  # of a draining worker's grace: then it releases the job, saved or not
SAVE_SHARE: Final = 0.6  # of the same grace, for the workload to save; the rest is for the upload
KILL_SHARE: Final = 1 / 3  # of what is left then, to wait for processes that do not die of SIGKILL
LOST_SHARE: Final = 0.5  # of an attempt's time: a workload that had less spent it on loading and is not to blame
NOTED_S: Final = 10.0  # the running time is noted at least this often
STUCK: Final = "a process of the job is still there long after SIGKILL: it hangs in the kernel"


class Supervisor:
    """Brings one run of a workload to its end.

    Args:
        running: The running job.
        checkpoints: Its checkpoints.
    """

    def __init__(self, running: RunningJob, checkpoints: CheckpointScheduler) -> None:
        self._claimed = running.claimed
        self._uploader = running.uploader
        self._child = running.child
        self._workload = running.staged.launch.workload
        self._checkpoints = checkpoints
        self._limits = running.claimed.context.limits
        self._began = self._claimed.now()
        self._ended: float | None = None
        restored = running.staged.restored
        self._first_step = (restored.ref.step or 0) if restored else 0
        self._resumed_from = restored.ref.seq if restored else None
        self._skipped_damaged = restored is not None and restored.ref != self._claimed.session.record.checkpoint
        self._report = Report()
        self._asked: Outcome | None = None
        self._leave_by: float | None = None
        self._kill_wait_s = KILL_WAIT_S
        self._stepped_at = self._noted_at = self._began

    @property
    def leave_by(self) -> float | None:
        """Deadline of a draining worker, by the monotonic clock; None if it is not draining."""
        return self._leave_by

    @property
    def useful_s(self) -> float:
        """Seconds for which the workload has run."""
        return (self._ended or self._claimed.now()) - self._began

    @property
    def steps(self) -> int:
        """Steps done in this attempt, as far as the workload reports them."""
        return max((self._report.done or 0) - self._first_step, 0)

    def until_end(self) -> Outcome:
        """Supervise until the attempt is to end and everything that can be saved is uploaded.

        Raises:
            LeaseLostError: Another epoch owns the job.
        """
        try:
            outcome = self._until_outcome()
        except OSError as error:
            if error.errno not in PORTABLE_ERRNOS:
                return of_disk(error)
            outcome = self._after_failure(f"its files cannot be saved: {reason_of(error)}")
        if self._checkpoints.commits > 0 or outcome.trigger is Trigger.COMPLETE:
            outcome = evolve(outcome, against_node=False)
        return self._unfit_if_stuck(outcome)

    def _until_outcome(self) -> Outcome:
        while True:
            self._handle_event()
            if exited := self._poll():
                return self._on_exited(exited)
            if self._asked:
                return self._stop_and_save(self._asked)
            if overdue := self._overdue():
                return overdue
            if self._checkpoints.failing_s > self._limits.patience.total_seconds():
                return self._stop_and_save(self._uploads_hopeless())
            self._checkpoints.take_if_due(self._report)
            if self._checkpoints.restarted:
                return self._fail_restarted()

    def _handle_event(self) -> None:
        match self._claimed.events.get(TICK_S):
            case DrainAsked():
                self._leave_by = self._claimed.now() + LEAVE_SHARE * self._limits.stop_grace.total_seconds()
                self._asked = self._asked or Outcome(Trigger.RELEASE, "drained")
            case CancelAsked():
                self._asked = Outcome(Trigger.CANCEL, "cancelled")
            case LeaseLost(reason):
                raise LeaseLostError(reason)
            case ThreadDied(name, error):
                raise RuntimeError(f"the {name} thread died: {error}") from error
            case Uploaded() | UploadFailed() as event:
                self._checkpoints.on_upload_ended(event)
        self._checkpoints.commit_if_due()

    def _poll(self) -> Exit | None:
        report = self._child.poll()
        if (report.done, report.total) == (None, None):
            report = evolve(report, done=self._report.done, total=self._report.total)
        moved = (report.done, report.total) != (self._report.done, self._report.total)
        self._report = report
        if moved:
            self._stepped_at = self._claimed.now()
        if moved or self._claimed.now() - self._noted_at >= NOTED_S:
            self._note_progress()
        if report.exited:
            self._ended = self._claimed.now()
        return report.exited

    def _note_progress(self) -> None:
        self._noted_at = self._claimed.now()
        useful_s, steps, report = round(self.useful_s, 3), self.steps, self._report
        rate = round(steps / useful_s, 3) if report.done is not None and useful_s > 0 else None
        progress = Progress(done=report.done, total=report.total, rate=rate)
        self._claimed.session.note(
            "progress",
            lambda record: evolve(record, progress=progress).with_attempt(useful_s=useful_s, steps=steps),
        )

    def _after_failure(
        self, error: str, *, saved: Change = unchanged, progressed: bool | None = None, by_itself: bool = True
    ) -> Outcome:
        """Return the outcome of a failure.

        Args:
            error: What went wrong.
            saved: The change that commits the attempt's last checkpoint.
            progressed: Whether the attempt got further; None if its commits tell.
            by_itself: Whether the program failed by itself.
        """
        failure = Failure(
            machine=self._claimed.context.node.machine,
            took_s=self._claimed.now() - self._claimed.claimed_at,
            progressed=self._checkpoints.commits > 0 if progressed is None else progressed,
            by_itself=by_itself,
            resumed_from=self._resumed_from,
            skipped_damaged=self._skipped_damaged,
        )
        return after_failure(saved(self._claimed.session.record), self._limits, failure, error=error)

    # ---- limits ----

    def _overdue(self) -> Outcome | None:
        """Return what a limit demands; None if none is reached."""
        workload, now = self._workload, self._claimed.now()
        delivery_held = timedelta(seconds=now - self._claimed.delivery.received_at)
        if self.useful_s >= self._limits.max_running_time.total_seconds() or delivery_held >= DELIVERY_LIMIT:
            return self._pause()
        ran = timedelta(seconds=self._claimed.session.record.ran_s + self.useful_s)
        if workload.wall_time and ran >= workload.wall_time:
            error = f"it ran for its wall_time of {ran!s:.15}"
            return self._stop_and_save(Outcome(Trigger.FAIL, "wall_time", error=error))
        if workload.silence and now - self._stepped_at >= workload.silence.total_seconds():
            self._child.kill()
            self._poll()
            self._claimed.event_log.write("killed", why="silence")
            return self._fail(f"no step in {workload.silence}: it was taken to hang, and killed")
        return None

    def _fail_restarted(self) -> Outcome:
        """End an attempt that did not load the checkpoint: what it saves must not take the place of that."""
        self._child.kill()
        self._poll()
        self._claimed.event_log.write("killed", why=self._checkpoints.restarted)
        return self._after_failure(str(self._checkpoints.restarted))

    def _pause(self) -> Outcome:
        """End an attempt whose time is up. If nothing is left of that time, it failed: the next would do no better."""
        ran = timedelta(seconds=round(self.useful_s))
        outcome = self._stop_and_save(Outcome(Trigger.PAUSE, "timeout"))
        if self._checkpoints.restarted:
            return self._after_failure(self._checkpoints.restarted)
        if self._checkpoints.left or ran < LOST_SHARE * min(self._limits.max_running_time, DELIVERY_LIMIT):
            return outcome
        error = f"it ran for {ran} and left no checkpoint, so that is lost: let it save sooner, or longer on SIGTERM"
        failed = self._after_failure(error, progressed=False, by_itself=False)
        return failed if failed.trigger is Trigger.FAIL else evolve(outcome, error=error, change=failed.change)

    # ---- ends ----

    def _on_exited(self, exited: Exit) -> Outcome:
        """Return the outcome of a workload that exited by itself."""
        why = "; ".join(exited.notes)
        self._claimed.event_log.write("exited", code=exited.code, why=why or None)
        ended = f"exit code {exited.code}: {why}" if why else f"exit code {exited.code}"
        error = "\n".join(filter(None, (ended, exited.tail)))
        match self._workload.meaning(exited.code):
            case ExitMeaning.DONE:
                return self._complete()
            case ExitMeaning.AGAIN:
                return self._save_and(Outcome(Trigger.RELEASE, "asked_again"))
            case ExitMeaning.INVALID:
                return Outcome(Trigger.FAIL, "invalid", error=exited.tail or error)
            case ExitMeaning.FAILED:
                return self._fail(error)

    def _fail(self, error: str) -> Outcome:
        """Return the outcome of a workload that failed; what it announced, and what is being uploaded, is kept."""
        saved = self._save_and(Outcome(Trigger.RELEASE, "workload_failed"), crashed=True)
        failed = self._after_failure(error, saved=saved.change)
        return evolve(failed, change=_both(saved.change, failed.change), commits_last=saved.commits_last)

    def _stop_and_save(self, outcome: Outcome) -> Outcome:
        """Stop the workload for a reason of ours, and save what it leaves, unless the job is cancelled.

        Once every process is dead, that is at least what a power cut would have left.
        """
        self._stop_child()
        return outcome if outcome.trigger is Trigger.CANCEL else self._save_and(outcome)

    def _stop_child(self) -> None:
        """Tell the workload to save and exit, and kill it when its grace is over."""
        self._child.stop()
        began = self._claimed.now()
        while self._claimed.now() < began + self._grace_s():
            self._handle_event()
            if exited := self._poll():
                self._claimed.event_log.write("stopped", code=exited.code, clean=exited.clean)
                return
        if self._leave_by is not None:
            self._kill_wait_s = min(KILL_WAIT_S, max(KILL_SHARE * (self._leave_by - self._claimed.now()), 0.0))
        self._child.kill(within_s=self._kill_wait_s)
        self._poll()
        self._claimed.event_log.write("killed", why=f"did not leave within {self._grace_s():.0f} s")

    def _grace_s(self) -> float:
        granted = self._workload.grace or self._limits.stop_grace
        if self._leave_by is not None:
            granted = min(granted, SAVE_SHARE * self._limits.stop_grace)
        return granted.total_seconds()

    def _complete(self) -> Outcome:
        self._checkpoints.capture_output(self._report)
        saved = self._upload_last()
        if saved is None:
            match self._checkpoints.last:
                case UploadFailed(_, TornSnapshotError() as torn):
                    return self._after_failure(f"its outputs changed after it had exited: {torn}", progressed=False)
            return self._asked or self._uploads_hopeless()
        result = Result(saved.ref, files=len(saved.manifest.files), bytes=saved.manifest.bytes)
        return Outcome(
            Trigger.COMPLETE,
            "completed",
            change=lambda record: with_result(record, result),
            commits_last=True,
        )

    def _save_and(self, outcome: Outcome, *, crashed: bool = False) -> Outcome:
        """Finish what is being uploaded, upload the last checkpoint, if any, and let *outcome* commit it.

        Args:
            outcome: Why the attempt ends.
            crashed: Whether the workload ended by itself without saving: only what it announced before counts.
        """
        if self._workload.check:  # it may refuse the last snapshot, so what waits must not be replaced by that one
            self._upload_last(try_again=False)
        with_directory = not crashed and not self._is_worse_than_saved()
        taken = self._checkpoints.take_last(self._report, with_directory=with_directory)
        saved = self._upload_last(try_again=taken or not (crashed or self._checkpoints.failing_s))
        if saved is None:
            return outcome
        point = self._checkpoints.commit_with_outcome(saved)
        return evolve(outcome, change=_both(outcome.change, point), commits_last=True)

    def _upload_last(self, *, try_again: bool = True) -> UploadedCheckpoint | None:
        """Wait until the snapshot that closes the attempt is uploaded, and those before it are committed.

        Args:
            try_again: Whether to upload the newest snapshot again, as the last one, if its upload fails.

        Returns:
            The uploaded last snapshot; None if there is none, it is of no use, or there is no more time.
        """
        self._checkpoints.is_closing = try_again
        began = self._claimed.now()
        while self._checkpoints.is_uploading and self._has_time(began) and not self._is_cancelled():
            self._handle_event()
            match self._checkpoints.last:
                case Uploaded(_, saved):
                    return saved
                case UploadFailed(snapshot, error):
                    self._claimed.event_log.write("upload_failed", seq=snapshot.seq, error=str(error))
                    if isinstance(error, OSError):
                        raise error
                    if isinstance(error, TornSnapshotError):
                        return None
                    self._claimed.context.clock.sleep(RETRY_S)
                    self._checkpoints.submit_last_again(snapshot)
        return None

    def _is_worse_than_saved(self) -> bool:
        """Return whether a file may be half written, and the last checkpoint is better than that."""
        writing = self._report.exited is not None and self._report.exited.writing
        is_saved = self._claimed.session.record.checkpoint is not None
        return writing and is_saved and self._checkpoints.quality is not Quality.FROZEN

    def _has_time(self, began: float) -> bool:
        """Return whether to go on uploading: until a draining worker must be gone, or else while bytes move."""
        if self._leave_by is not None:
            return self._claimed.now() < self._leave_by
        moved = max(began, self._uploader.moved_at)
        return self._claimed.now() < moved + self._limits.patience.total_seconds()

    def _unfit_if_stuck(self, outcome: Outcome) -> Outcome:
        """Let the worker take no other job beside a process that cannot be killed; a draining one takes none anyway."""
        if not (self._report.exited and self._report.exited.stuck) or self._kill_wait_s < KILL_WAIT_S:
            return outcome
        self._claimed.event_log.write("killed", why=STUCK)
        is_over = outcome.trigger in {Trigger.COMPLETE, Trigger.CANCEL}
        return evolve(outcome, wants_new_node=True, error=outcome.error or (None if is_over else STUCK))

    def _is_cancelled(self) -> bool:
        return self._asked is not None and self._asked.trigger is Trigger.CANCEL

    def _uploads_hopeless(self) -> Outcome:
        error = f"nothing could be uploaded from this node for {self._limits.patience}"
        return Outcome(Trigger.RELEASE, "uploads_hopeless", error=error, wants_new_node=True)


def _both(first: Change, second: Change) -> Change:
    return lambda record: second(first(record))
