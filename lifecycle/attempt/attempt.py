"""One node's run at a job, from taking the lease to giving it up.

`run` is called in the thread that owns the machine. What may follow what stands in `lifecycle.states`; what else
happens on the way is wired in `Attempt.__init__`, in one place.
"""

import logging
import shutil
from datetime import timedelta
from functools import partial
from typing import Final

from attrs import evolve

from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import DrainAsked, Event
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.log_shipper import LogShipper
from lifecycle.attempt.outcome import AttemptTotals, Outcome, finalize, not_ready
from lifecycle.attempt.running import AttemptContext
from lifecycle.attempt.salad_demo import DemoFiles
from lifecycle.attempt.staging import StagedJob, Staging, StagingInterrupted
from lifecycle.attempt.supervisor import Supervisor
from lifecycle.attempt.uploader import Uploader
from lifecycle.attempt.webhook_dispatcher import WebhookDispatcher
from lifecycle.checkpoint.restore import RestoredCheckpoint
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import CheckpointWriter
from lifecycle.concurrency import RateLimiter
from lifecycle.errors import ConfigError, LeaseLostError, PermanentError, RetryableError, UnknownOutcomeError
from lifecycle.job_record import JobRecord
from lifecycle.machine import Change, Lifecycle
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import JobDirs, Launch, RunningWorkload
from lifecycle.ports.store import ABSENT
from lifecycle.record.claiming import claim
from lifecycle.record.message import JobMessage
from lifecycle.record.notifications import NotificationRecorder
from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.record.session import RecordSession
from lifecycle.states import FINAL, Edge, Facts, State, Trigger, Write

RETRY_S: Final = 2.0  # between two tries to write the last state
MARK_DIGITS: Final = 8  # hexadecimal ones, of the write that took the lease
JOIN_S: Final = 10.0  # for a thread in the middle of a call; a longer one ends with the process

log = logging.getLogger("holdfast.attempt")


class Attempt:
    """One attempt.

    Args:
        context: The ports and the numbers.
        message: What the message said.
        delivery: What woke us.
        stored: The record as read; None if there is none yet.
    """

    def __init__(
        self, context: WorkerContext, message: JobMessage, delivery: Delivery, stored: StoredRecord | None
    ) -> None:
        self._context = context
        self._message = message
        self._delivery = delivery
        self._stored = stored
        self._dirs = JobDirs(context.work_dir / message.keys.job)
        self._events: Mailbox[Event] = context.clock.mailbox()
        self._acknowledgement = Acknowledgement(context, message, delivery)
        self._machine = Lifecycle(
            stored.record.state if stored else State.QUEUED,
            record=self._write_record,
            entered={
                State.CHECKPOINTING: self._queue_snapshot,
                State.PAUSED_FOR_TIMEOUT: self._send_anew,
                State.RELEASED: self._hand_back,
                State.COMPLETED: self._publish,
                State.FAILED: self._delete,
                State.CANCELLED: self._delete,
            },
            observed=self._observe,
        )
        self._notices = NotificationRecorder(
            context.notification_policy, message.keys, node=context.node.name, clock=context.clock
        )
        # Set as the attempt gets there.
        self._session: RecordSession
        self._taken_at = 0.0
        self._token = ""
        self._event_log: EventLog
        self._heartbeat: Heartbeat
        self._log_shipper: LogShipper
        self._webhook_dispatcher: WebhookDispatcher | None = None
        self._outcome: Outcome | None = None
        self._demo: DemoFiles | None = None
        self._child: RunningWorkload | None = None
        self._uploader: Uploader | None = None
        self._checkpointer: CheckpointScheduler | None = None
        self._watch: Supervisor | None = None

    def drain(self) -> None:
        """Save, hand the job back, end. Safe from a signal handler, and to repeat."""
        self._events.put(DrainAsked())

    def run(self) -> Outcome | None:
        """Take the lease, and carry the job as far as this attempt gets.

        Returns:
            How it ended; None if another epoch owns the job now.

        Raises:
            LeaseLostError: Somebody else took the lease first; nothing was changed.
            UnknownOutcomeError: Whether the lease was taken is not known; hand the message back.
        """
        self._machine.fire(Trigger.TAKE, facts=Facts())
        self._heartbeat = Heartbeat(self._context, session=self._session, delivery=self._delivery, events=self._events)
        self._log_shipper = LogShipper(
            self._context,
            self._message.keys,
            epoch=self._session.record.epoch,
            event_log=self._event_log,
            dirs=self._dirs,
        )
        if self._context.notification_policy:
            self._webhook_dispatcher = WebhookDispatcher(
                self._context, self._context.notification_policy.notifier, self._message.keys, session=self._session
            )
        try:
            self._outcome = self._carry()
            self._end(self._outcome)
        except LeaseLostError as error:
            self._outcome = None
            self._end_superseded(str(error))
        finally:
            self._close()
        return self._outcome

    # ---- hooks: before and after a change of state ----

    def _write_record(self, edge: Edge, change: Change) -> None:
        """Bring the change to the record, when the edge says; if that fails, the state stays as it was."""
        notice = self._notices.of(
            edge,
            cause=self._outcome.cause if self._outcome else None,
            error=self._outcome.error if self._outcome else None,
        )

        def enter(record: JobRecord) -> JobRecord:
            return notice(evolve(change(record), state=edge.destination))

        if edge.trigger is Trigger.TAKE:
            self._take(notice)
        elif edge.write is Write.AT_ONCE:
            self._session.write(enter)
        elif edge.write is Write.NEXT_BEAT:
            self._session.note(edge.trigger, enter)

    def _observe(self, edge: Edge) -> None:
        self._notices.entered()
        self._context.observer.entered(edge, self._session.record)

    def _take(self, notice: Change) -> None:
        context, keys = self._context, self._message.keys
        record = claim(self._message, self._stored, node=context.node, limits=context.limits, now=context.clock.now())
        answer = context.record_store.write(
            keys.record, notice(record), self._stored.version if self._stored else ABSENT
        )
        if isinstance(answer, WriteConflict):
            raise LeaseLostError(f"{keys.job}: somebody else took the lease first")
        self._taken_at, self._token = context.clock.monotonic(), answer.record.write_id[:MARK_DIGITS]
        gap_s = context.limits.write_gap.total_seconds()
        self._session = RecordSession(
            context.record_store,
            context.clock,
            key=keys.record,
            stored=answer,
            write_gap_s=gap_s,
            observer=context.observer,
        )
        self._event_log = EventLog(context.clock, context.observer, epoch=record.epoch, node=context.node.name)
        self._event_log.write("received", message=self._delivery.message_id, receives=self._delivery.receives)

    def _queue_snapshot(self, edge: Edge) -> None:
        if edge.trigger is Trigger.CHECKPOINT and self._checkpointer:
            self._checkpointer.on_entered_checkpointing()

    def _send_anew(self, _: Edge) -> None:
        self._heartbeat.stop(timeout_s=JOIN_S)
        self._acknowledgement.send_anew(self._session.record)

    def _hand_back(self, _: Edge) -> None:
        self._heartbeat.stop(timeout_s=JOIN_S)
        self._acknowledgement.hand_back(self._outcome.delay if self._outcome else timedelta(0))

    def _publish(self, _: Edge) -> None:
        # The heart beats on meanwhile: publishing may take long, and the delivery had better stay ours.
        self._acknowledgement.publish(self._session.record, self._session.write)

    def _delete(self, _: Edge) -> None:
        self._acknowledgement.delete()

    # ---- the way ----

    def _carry(self) -> Outcome:
        record, limit = self._session.record, self._context.limits.max_lost_attempts
        if record.control.cancel:
            return Outcome(Trigger.CANCEL, "cancelled")
        if record.deaths >= limit:
            return Outcome(
                Trigger.FAIL, "deaths", error=f"{record.deaths} nodes in a row vanished without a checkpoint"
            )
        try:
            ready = self._prepare(record)
            self._child = self._context.runner.start(ready.launch)
        except StagingInterrupted as early:
            return early.outcome
        except (PermanentError, RetryableError, ConfigError, OSError) as error:
            return not_ready(error)
        return self._supervise(ready.launch, ready.restored, self._child)

    def _prepare(self, record: JobRecord) -> StagedJob:
        context, keys = self._context, self._message.keys
        if record.demo:
            self._demo = DemoFiles(context.store, context.clock, keys=keys, node=context.node.name)
            self._demo.began(record)
        ready = Staging(
            context=context,
            keys=keys,
            dirs=self._dirs,
            events=self._events,
            event_log=self._event_log,
            demo=self._demo,
        ).ready(record)
        step = ready.restored.ref.step if ready.restored else None
        resumed = ready.launch.resumed
        self._event_log.write("resumed" if resumed else "input_loaded", step=step)
        self._machine.fire(
            Trigger.RESUME if resumed else Trigger.LOAD_INPUT,
            facts=Facts(restored=resumed),
            change=lambda latest: latest.with_attempt(resumed_step=step),
        )
        return ready

    def _supervise(self, launch: Launch, restored: RestoredCheckpoint | None, child: RunningWorkload) -> Outcome:
        prepared_s = round(self._context.clock.monotonic() - self._taken_at, 3)
        self._machine.fire(Trigger.START, change=lambda latest: latest.with_attempt(prepared_s=prepared_s))
        self._event_log.write("running", workload=launch.workload.name)
        context = self._context
        writer = CheckpointWriter(
            context.store,
            context.clock,
            keys=self._message.keys,
            epoch=self._session.record.epoch,
            token=self._token,
            chunk_sizes=context.chunk_sizes,
            limiter=RateLimiter(context.clock, context.limits.upload_limit),
        )
        self._uploader = Uploader(
            writer,
            context.clock,
            kept=(restored.base,) if restored else (),
            check=partial(self._check, launch),
            events=self._events,
            event_log=self._event_log,
            after_commit=self._after_commit,
        )
        running = AttemptContext(
            context=self._context,
            delivery=self._delivery,
            launch=launch,
            child=child,
            machine=self._machine,
            session=self._session,
            uploader=self._uploader,
            events=self._events,
            event_log=self._event_log,
            resumed_from=restored.ref if restored else None,
        )
        self._checkpointer = CheckpointScheduler(running)
        self._watch = Supervisor(running, self._checkpointer)
        return self._watch.until_end()

    def _check(self, launch: Launch, snapshot: Snapshot) -> str | None:
        """In the uploader's thread: what the workload's own check has to say of a checkpoint."""
        return None if snapshot.is_result else self._context.runner.check(launch, snapshot.directory)

    def _after_commit(self, snapshot: Snapshot) -> None:
        """In the uploader's thread, after each commit: bring the demo's own files up to it."""
        if self._demo and self._session.record.result is None:
            self._demo.committed(snapshot, self._session.record.progress)

    # ---- the end ----

    def _end(self, outcome: Outcome) -> None:
        """Write the attempt's last state, again until it is known to be written; the hooks settle the rest."""
        account = AttemptTotals(
            began=self._session.record,
            useful_s=self._watch.useful_s if self._watch else 0.0,
            steps=self._watch.steps if self._watch else 0,
            commits=self._checkpointer.commits if self._checkpointer else 0,
        )
        change = finalize(outcome, account, self._context.clock.now())
        give_up = self._context.clock.monotonic() + self._context.limits.patience.total_seconds()
        while True:
            try:
                self._machine.fire(outcome.trigger, change=change)
            except UnknownOutcomeError as error:
                log.warning("%s: %s is not recorded yet: %s", self._message.keys.job, outcome.cause, error)
                if self._context.clock.monotonic() > self._leave_by(give_up):
                    return  # the message will be seen again by itself, soon after the lease is over
                self._context.clock.sleep(RETRY_S)
            else:
                break
        self._event_log.write(outcome.cause, error=outcome.error)
        if outcome.commits_last and self._uploader:
            self._uploader.committed()

    def _leave_by(self, otherwise: float) -> float:
        leave_by = self._watch.leave_by if self._watch else None
        return leave_by if leave_by is not None else otherwise

    def _end_superseded(self, why: str) -> None:
        """Another epoch owns the job: nothing more is written."""
        log.warning("%s: superseded: %s", self._message.keys.job, why)
        if self._webhook_dispatcher:
            self._webhook_dispatcher.stop()
        self._machine.fire(Trigger.SUPERSEDE)

    def _close(self) -> None:
        """Leave nothing running, and nothing on the disk that no later attempt here could use."""
        if self._child:
            self._child.kill()
        self._heartbeat.stop(timeout_s=JOIN_S)
        if self._uploader:
            self._uploader.stop(timeout_s=JOIN_S)
        has_stopped = self._log_shipper.stop(timeout_s=JOIN_S)
        if self._outcome and has_stopped:
            self._keep_logs(self._outcome)
        if self._outcome and self._webhook_dispatcher:
            self._webhook_dispatcher.finish()
        if self._machine.state in FINAL:
            shutil.rmtree(self._dirs.root, ignore_errors=True)
        self._context.observer.left(self._session.record)

    def _keep_logs(self, outcome: Outcome) -> None:
        self._log_shipper.ship()
        if self._demo:
            self._demo.ended(self._session.record, outcome.cause)
