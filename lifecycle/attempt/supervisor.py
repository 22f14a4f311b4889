"""Watching over a running workload, to whichever end it comes. Runs in the thread that owns the machine.

It never waits longer than a tick without looking at the workload and at what the other threads say.
"""

from datetime import timedelta
from typing import Final

from attrs import evolve

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.attempt.events import CancelAsked, DrainAsked, LeaseLost, ThreadDied, Uploaded, UploadFailed
from lifecycle.attempt.outcome import OF_THE_FILES, Outcome, after_failure, of_disk
from lifecycle.attempt.running import AttemptContext
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.errors import LeaseLostError, TornSnapshotError
from lifecycle.job_record import Progress, Result
from lifecycle.limits import DELIVERY_LIMIT
from lifecycle.machine import Change
from lifecycle.ports.runner import Exit, ExitMeaning, Report
from lifecycle.states import Trigger

TICK_S: Final = 0.1
RETRY_S: Final = 2.0  # between two tries to upload what must not be lost
LEAVE_SHARE: Final = 0.9  # of a draining worker's grace: then it hands the job back, saved or not
SAVE_SHARE: Final = 0.6  # of the same, for the workload to save; the rest is for the upload
LOST_SHARE: Final = 0.5  # of an attempt's time: a workload that had less, most went into loading, is not to blame
NOTED_S: Final = 10.0  # so often at least it is noted how long the workload has run
BY_SIGNAL: Final = 128  # exit codes from here on: a signal ended it


class Supervisor:
    """Brings one run of a workload to its end.

    Args:
        on: The attempt.
        checkpointer: Its checkpoints.
    """

    def __init__(self, on: AttemptContext, checkpointer: CheckpointScheduler) -> None:
        self._on = on
        self._checkpoints = checkpointer
        self._limits = on.context.limits
        self._began = on.now()
        self._ended: float | None = None
        self._first_step = on.resumed_from.step if on.resumed_from else 0
        self._report = Report()
        self._asked: Outcome | None = None
        self._leave_by: float | None = None
        self._stepped_at = self._noted_at = self._began

    @property
    def leave_by(self) -> float | None:
        """When a draining worker must be gone, by the monotonic clock; None if it is not draining."""
        return self._leave_by

    @property
    def useful_s(self) -> float:
        """Seconds that the workload has run."""
        return (self._ended or self._on.now()) - self._began

    @property
    def steps(self) -> int:
        """Steps that it has done in this attempt, as far as it says."""
        return max((self._report.done or 0) - (self._first_step or 0), 0)

    def until_end(self) -> Outcome:
        """Watch until the attempt is to end, and everything that can be saved is uploaded.

        Raises:
            LeaseLostError: Another epoch owns the job.
        """
        try:
            while True:
                self._hear()
                exited = self._look()
                if exited:
                    return self._exited(exited)
                if self._asked:
                    return self._leave(self._asked)
                if overdue := self._overdue():
                    return overdue
                if self._checkpoints.failing_s > self._limits.patience.total_seconds():
                    return self._leave(self._hopeless())
                self._checkpoints.take_if_due(self._report)
        except OSError as error:
            if error.errno not in OF_THE_FILES:
                return of_disk(error)
            progressed = self._checkpoints.commits > 0
            cause = f"its files cannot be saved: {error}"
            return after_failure(self._on.session.record, self._limits, error=cause, progressed=progressed)

    def _hear(self) -> None:
        match self._on.events.get(TICK_S):
            case DrainAsked():
                self._leave_by = self._on.now() + LEAVE_SHARE * self._limits.stop_grace.total_seconds()
                self._asked = self._asked or Outcome(Trigger.RELEASE, "drained")
            case CancelAsked():
                self._asked = Outcome(Trigger.CANCEL, "cancelled")
            case LeaseLost(why):
                raise LeaseLostError(why)
            case ThreadDied(name, error):
                raise RuntimeError(f"the {name} thread died: {error}") from error
            case Uploaded() | UploadFailed() as event:
                self._checkpoints.heard(event)
        self._checkpoints.commit_if_due()

    def _look(self) -> Exit | None:
        report = self._on.child.poll()
        if (report.done, report.total) == (None, None):
            report = evolve(report, done=self._report.done, total=self._report.total)
        moved = (report.done, report.total) != (self._report.done, self._report.total)
        self._report = report
        if moved:
            self._stepped_at = self._on.now()
        if moved or self._on.now() - self._noted_at >= NOTED_S:
            self._note_progress()
        if report.exited:
            self._ended = self._on.now()
        return report.exited

    def _note_progress(self) -> None:
        self._noted_at = self._on.now()
        useful_s, steps, report = round(self.useful_s, 3), self.steps, self._report
        rate = round(steps / useful_s, 3) if report.done is not None and useful_s > 0 else None
        progress = Progress(done=report.done, total=report.total, rate=rate)
        self._on.session.note(
            "progress",
            lambda record: evolve(record, progress=progress).with_attempt(useful_s=useful_s, steps=steps),
        )

    def _overtime(self) -> bool:
        stored = timedelta(seconds=self._on.now() - self._on.delivery.received_at)
        return self.useful_s >= self._limits.max_running_time.total_seconds() or stored >= DELIVERY_LIMIT

    def _overdue(self) -> Outcome | None:
        """What a limit demands, if one is reached."""
        workload = self._on.launch.workload
        if self._overtime():
            return self._pause()
        ran = timedelta(seconds=self._on.session.record.ran_s + self.useful_s)
        if workload.wall_time and ran >= workload.wall_time:
            return self._leave(Outcome(Trigger.FAIL, "wall_time", error=f"it ran for its wall_time of {ran!s:.15}"))
        if workload.silence and self._on.now() - self._stepped_at >= workload.silence.total_seconds():
            self._on.child.kill()
            self._look()
            self._on.event_log.write("killed", why="silence")
            return self._failed(f"no step in {workload.silence}: it was taken to hang, and killed")
        return None

    def _pause(self) -> Outcome:
        """The attempt has had its time. If nothing is left of that, it failed: the next would fare no better."""
        ran = timedelta(seconds=round(self.useful_s))
        outcome = self._leave(Outcome(Trigger.PAUSE, "timeout"))
        if self._checkpoints.left or ran < LOST_SHARE * min(self._limits.max_running_time, DELIVERY_LIMIT):
            return outcome
        error = f"it ran for {ran} and left no checkpoint, so that is lost: let it save sooner, or longer on SIGTERM"
        failed = after_failure(self._on.session.record, self._limits, error=error, progressed=False)
        return failed if failed.trigger is Trigger.FAIL else evolve(outcome, error=error, change=failed.change)

    # ---- ends ----

    def _exited(self, exited: Exit) -> Outcome:
        """The workload ended by itself."""
        self._on.event_log.write("exited", code=exited.code)
        error = "\n".join(filter(None, (f"exit code {exited.code}", exited.tail)))
        match self._on.launch.workload.meaning(exited.code):
            case ExitMeaning.DONE:
                return self._complete()
            case ExitMeaning.AGAIN:
                return self._save_and(Outcome(Trigger.RELEASE, "asked_again"), trust_directory=True)
            case ExitMeaning.INVALID:
                return Outcome(Trigger.FAIL, "invalid", error=exited.tail or error)
            case ExitMeaning.FAILED:
                return self._failed(error)

    def _failed(self, error: str) -> Outcome:
        """The workload failed, by its own account or ours; what it announced before is kept."""
        saved = self._save_and(Outcome(Trigger.RELEASE, "workload_failed"), trust_directory=False)
        progressed = self._checkpoints.commits > 0
        failed = after_failure(self._on.session.record, self._limits, error=error, progressed=progressed)
        return evolve(failed, change=_both(saved.change, failed.change), commits_last=saved.commits_last)

    def _leave(self, outcome: Outcome) -> Outcome:
        """The workload is to end for our reasons: save and leave, or, cancelled, just leave."""
        exited = self._stop_child()
        if outcome.trigger is Trigger.CANCEL:
            return outcome
        left_by_itself = exited is not None and exited.code < BY_SIGNAL
        return self._save_and(outcome, trust_directory=left_by_itself)

    def _stop_child(self) -> Exit | None:
        """Tell the workload to save and leave, and kill it when its grace is over; None if it had to be killed."""
        self._on.child.stop()
        began = self._on.now()
        while self._on.now() < began + self._grace_s():
            self._hear()
            if exited := self._look():
                self._on.event_log.write("stopped", code=exited.code)
                return exited
        self._on.child.kill()
        self._look()
        self._on.event_log.write("killed", why=f"did not leave within {self._grace_s():.0f} s")
        return None

    def _grace_s(self) -> float:
        granted = self._on.launch.workload.grace or self._limits.stop_grace
        if self._leave_by is not None:
            granted = min(granted, SAVE_SHARE * self._limits.stop_grace)
        return granted.total_seconds()

    def _complete(self) -> Outcome:
        self._checkpoints.take_output(self._report)
        saved = self._upload_last()
        if saved is None:
            return self._asked or self._hopeless()
        result = Result(saved.ref, files=len(saved.manifest.files), bytes=saved.manifest.bytes)
        return Outcome(
            Trigger.COMPLETE,
            "completed",
            change=lambda record: evolve(record, result=result, fallback=None, failures=0, deaths=0),
            commits_last=True,
        )

    def _save_and(self, outcome: Outcome, *, trust_directory: bool) -> Outcome:
        """Upload the last checkpoint, if the workload left one, and let *outcome* commit it."""
        if not self._checkpoints.take_last(self._report, trust_directory=trust_directory):
            return outcome
        saved = self._upload_last()
        if saved is None:
            return outcome
        point = self._checkpoints.commit_with_ending(saved)
        return evolve(outcome, change=_both(outcome.change, point), commits_last=True)

    def _upload_last(self) -> UploadedCheckpoint | None:
        """See what closes the attempt uploaded, trying again and again until there is no more time."""
        give_up = self._on.now() + self._limits.patience.total_seconds()
        while self._on.now() < min(give_up, self._leave_by or give_up) and not self._is_cancelled():
            self._hear()
            match self._checkpoints.last:
                case Uploaded(_, saved):
                    return saved
                case UploadFailed(snapshot, error):
                    self._on.event_log.write("upload_failed", seq=snapshot.seq, error=str(error))
                    if isinstance(error, OSError):
                        raise error
                    if isinstance(error, TornSnapshotError):
                        return None
                    self._on.context.clock.sleep(RETRY_S)
                    self._checkpoints.submit_last_again(snapshot)
        return None

    def _is_cancelled(self) -> bool:
        return self._asked is not None and self._asked.trigger is Trigger.CANCEL

    def _hopeless(self) -> Outcome:
        why = f"nothing could be uploaded from this node for {self._limits.patience}"
        return Outcome(Trigger.RELEASE, "uploads_hopeless", error=why, wants_new_node=True)


def _both(first: Change, second: Change) -> Change:
    return lambda record: second(first(record))
