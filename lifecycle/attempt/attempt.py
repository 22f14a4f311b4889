"""One node's run at a job, from claiming it to giving it up.

An attempt goes through phases: claimed, staged, running, finished (`lifecycle.attempt.phases`). Which state may follow
which is the matter of the table in `lifecycle.states`, and what a transition brings about is in
`lifecycle.attempt.effects`. All of it happens in the thread that called `run`.
"""

from functools import partial
from typing import Final

from attrs import evolve

from lifecycle.attempt import defects
from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.effects import JOIN_S, AttemptEffects
from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import DrainAsked, Event
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.log_shipper import LogShipper
from lifecycle.attempt.outcome import (
    HOLDFAST_FAILED,
    AttemptTotals,
    Outcome,
    after_failure,
    finalize,
    not_ready,
    of_misfit,
)
from lifecycle.attempt.phases import ClaimedJob, FinishedJob, RunningJob, StagedJob
from lifecycle.attempt.retention import Retention
from lifecycle.attempt.salad_demo import DemoFiles
from lifecycle.attempt.staging import StagingInterrupted, stage
from lifecycle.attempt.supervisor import Supervisor
from lifecycle.attempt.uploader import Uploader
from lifecycle.attempt.webhook_dispatcher import WebhookDispatcher
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.tree import discard_tree
from lifecycle.checkpoint.writer import CheckpointWriter
from lifecycle.concurrency import RateLimiter
from lifecycle.errors import (
    ConfigError,
    LeaseLostError,
    MisfitError,
    PermanentError,
    RetryableError,
    UnknownOutcomeError,
)
from lifecycle.evidence import NO_MISFITS, Misfit
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import JobDirs, RunningWorkload
from lifecycle.record.blame import Failure
from lifecycle.record.claiming import claiming, lease_facts
from lifecycle.record.message import JobMessage
from lifecycle.record.record_store import StoredRecord
from lifecycle.record.usability import can_fall_back
from lifecycle.states import FINAL, Facts, Trigger
from lifecycle.structured_log import StructuredLogger

RETRY_S: Final = 2.0  # between two tries to write the last state

log = StructuredLogger("holdfast.attempt")


class Attempt:
    """One attempt.

    Args:
        context: The worker's ports and limits.
        message: What was received.
        delivery: The delivery that brought it.
        stored: The record as read; None if there is none yet.
    """

    def __init__(
        self, context: WorkerContext, message: JobMessage, delivery: Delivery, stored: StoredRecord | None
    ) -> None:
        self._context = context
        self._message = message
        self._delivery = delivery
        self._stored = stored
        self._events: Mailbox[Event] = context.clock.mailbox()

    def drain(self) -> None:
        """Save, release the job, end. Safe from a signal handler, and to repeat."""
        self._events.put(DrainAsked())

    def run(self) -> Outcome | None:
        """Claim the job, and carry it as far as this attempt gets.

        Returns:
            How the attempt ended; None if another epoch owns the job now.

        Raises:
            LeaseLostError: Another worker claimed the job first; nothing was changed.
            UnknownOutcomeError: It is not known whether the job was claimed; release the message.
        """
        claimed = self._claim()
        outcome = None
        try:
            finished = self._carry_out_safely(claimed)
            outcome = finished.outcome
            self._record_end(claimed, finished)
        except LeaseLostError as error:
            outcome = None
            log.warning("attempt.superseded", job=claimed.keys.job, error=error)
            claimed.machine.fire(Trigger.SUPERSEDE)
        finally:
            _close(claimed, outcome)
        return outcome

    # ---- the phases ----

    def _claim(self) -> ClaimedJob:
        context, message, delivery = self._context, self._message, self._delivery
        machine = AttemptEffects(context, message, self._stored, Acknowledgement(context, message, delivery))
        age_s = (self._stored.age_s or 0.0) if self._stored else 0.0
        change = claiming(message, node=context.node, limits=context.limits, now=context.clock.now(), age_s=age_s)
        machine.fire(Trigger.TAKE, facts=lease_facts(self._stored), change=change)
        session, keys, node = machine.session, message.keys, context.node.name
        epoch, dirs = session.record.epoch, JobDirs(context.work_dir / keys.job)
        event_log = EventLog(context.clock, context.observer, epoch=epoch, node=node)
        event_log.write("received", message=delivery.message_id, receives=delivery.receives)
        policy = context.notification_policy
        machine.claimed = ClaimedJob(
            context=context,
            delivery=delivery,
            keys=keys,
            dirs=dirs,
            machine=machine,
            session=session,
            token=session.token,
            claimed_at=session.opened_at,
            events=self._events,
            event_log=event_log,
            heartbeat=Heartbeat(context, session=session, delivery=delivery, events=self._events),
            log_shipper=LogShipper(context, keys, epoch=epoch, event_log=event_log, dirs=dirs),
            webhook_dispatcher=WebhookDispatcher(context, policy.notifier, keys, session=session) if policy else None,
            demo=DemoFiles(context.store, context.clock, keys=keys, node=node) if session.record.demo else None,
        )
        return machine.claimed

    def _carry_out_safely(self, claimed: ClaimedJob) -> FinishedJob:
        """Carry the job out; an unexpected exception is Holdfast's fault, costs the job a try, and goes no further."""
        try:
            return self._carry_out(claimed)
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - what was not foreseen
            defects.log_defect(claimed.keys.job, error)
            failure = Failure(
                machine=self._context.node.machine,
                took_s=claimed.now() - claimed.claimed_at,
                progressed=False,
                by_itself=False,
            )
            text = f"a fault of Holdfast's, see the worker's log: {type(error).__name__}: {error}"
            outcome = after_failure(
                claimed.session.record, self._context.limits, failure, error=text, cause=HOLDFAST_FAILED
            )
            return _finished_early(claimed, outcome)

    def _carry_out(self, claimed: ClaimedJob) -> FinishedJob:
        record, limit = claimed.session.record, self._context.limits.max_lost_attempts
        if record.control.cancel:
            return _finished_early(claimed, Outcome(Trigger.CANCEL, "cancelled"))
        tries_fallback = self._stored is not None and can_fall_back(self._stored.record)  # see `claiming`
        if record.deaths >= limit and not tries_fallback:
            error = f"{record.deaths} nodes in a row vanished without a checkpoint"
            return _finished_early(claimed, Outcome(Trigger.FAIL, "deaths", error=error))
        try:
            staged = self._stage(claimed)
            child = self._context.runner.start(staged.launch)
        except StagingInterrupted as interrupted:
            return _finished_early(claimed, interrupted.outcome)
        except MisfitError as error:
            return _finished_early(claimed, self._misfit(claimed, error))
        except (PermanentError, RetryableError, ConfigError, OSError) as error:
            return _finished_early(claimed, not_ready(error))
        try:
            running = claimed.machine.running = self._run_workload(claimed, staged, child)
        except BaseException:
            child.kill()  # it is not known to the machine yet
            raise
        checkpoints = CheckpointScheduler(running)
        supervisor = Supervisor(running, checkpoints)
        outcome = supervisor.until_end()
        totals = AttemptTotals(
            began=claimed.session.record,
            useful_s=supervisor.useful_s,
            steps=supervisor.steps,
            commits=checkpoints.commits,
        )
        return FinishedJob(outcome, totals, supervisor.leave_by)

    def _misfit(self, claimed: ClaimedJob, error: MisfitError) -> Outcome:
        context = self._context
        misfit = Misfit(context.node.machine, context.image or context.node.machine, error.lacks)
        return of_misfit(claimed.session.record, context.limits, misfit)

    def _stage(self, claimed: ClaimedJob) -> StagedJob:
        record = claimed.session.record
        if claimed.demo:
            claimed.demo.began(record)
        staged = stage(claimed, record)
        resumed, ref = staged.launch.resumed, staged.restored.ref if staged.restored else None
        step, seq, computed_s = (ref.step, ref.seq, ref.computed_s) if ref else (None, None, 0.0)
        claimed.event_log.write("resumed" if resumed else "input_loaded", step=step, seq=seq)
        claimed.machine.fire(
            Trigger.STAGE,
            facts=Facts(restored=resumed),
            change=lambda latest: latest.with_attempt(resumed_step=step, resumed_from=seq, resumed_s=computed_s),
        )
        return staged

    def _run_workload(self, claimed: ClaimedJob, staged: StagedJob, child: RunningWorkload) -> RunningJob:
        prepared_s = round(claimed.now() - claimed.claimed_at, 3)
        claimed.machine.fire(
            Trigger.START,
            change=lambda latest: evolve(latest, misfits=NO_MISFITS).with_attempt(prepared_s=prepared_s),
        )
        claimed.event_log.write("running", workload=staged.launch.workload.name)
        context, clock = self._context, self._context.clock
        writer = CheckpointWriter(
            context.store,
            clock,
            keys=claimed.keys,
            epoch=claimed.session.record.epoch,
            token=claimed.token,
            chunk_sizes=context.chunk_sizes,
            limiter=RateLimiter(clock, context.limits.upload_limit),
        )
        uploader = Uploader(
            writer,
            clock,
            kept=(staged.restored.base,) if staged.restored else (),
            check=partial(_check, context, staged),
            events=self._events,
            event_log=claimed.event_log,
            after_commit=partial(_copy_to_demo, claimed),
            retained=Retention(
                context.store,
                clock,
                claimed.keys,
                claimed.session,
                keep_every=staged.launch.workload.keep_every,
            ).kept,
        )
        return RunningJob(claimed, staged, child, uploader)

    def _record_end(self, claimed: ClaimedJob, finished: FinishedJob) -> None:
        """Record the attempt's end, again and again until it is known to be recorded; its effects settle the rest."""
        outcome, clock = finished.outcome, self._context.clock
        change = finalize(outcome, finished.totals, clock.now())
        give_up = finished.leave_by
        if give_up is None:
            give_up = clock.monotonic() + self._context.limits.patience.total_seconds()
        while True:
            try:
                claimed.machine.fire(outcome.trigger, change=change, outcome=outcome)
            except UnknownOutcomeError as error:
                log.warning("outcome.not_recorded", job=claimed.keys.job, outcome=outcome.cause, error=error)
                if clock.monotonic() > give_up:
                    return  # the message is delivered again by itself, soon after the lease has run out
                clock.sleep(RETRY_S)
            else:
                claimed.event_log.write(outcome.cause, error=outcome.error)
                return


def _finished_early(claimed: ClaimedJob, outcome: Outcome) -> FinishedJob:
    """Return the end of an attempt whose workload never ran."""
    return FinishedJob(outcome, AttemptTotals(began=claimed.session.record))


def _check(context: WorkerContext, staged: StagedJob, snapshot: Snapshot) -> str | None:
    """Return what the workload's own check finds wrong with a checkpoint. Runs in the uploader's thread."""
    return None if snapshot.is_result else context.runner.check(staged.launch, snapshot.directory)


def _copy_to_demo(claimed: ClaimedJob, snapshot: Snapshot) -> None:
    """Bring the Salad demo's own files up to a commit. Runs in the uploader's thread."""
    record = claimed.session.record
    if claimed.demo and record.result is None:
        claimed.demo.committed(snapshot, record.progress)


def _close(claimed: ClaimedJob, outcome: Outcome | None) -> None:
    """Leave nothing running, and nothing on the disk that no later attempt here could use.

    Args:
        claimed: The job.
        outcome: How the attempt ended; None if it was superseded or a defect ended it.
    """
    running = claimed.machine.running
    if running:
        running.child.kill()
    claimed.heartbeat.stop(timeout_s=JOIN_S)
    if running:
        running.uploader.stop(timeout_s=JOIN_S)
    if claimed.log_shipper.stop(timeout_s=JOIN_S) and outcome:
        claimed.log_shipper.ship()
        if claimed.demo:
            claimed.demo.ended(claimed.session.record, outcome.cause)
    if outcome and claimed.webhook_dispatcher:
        claimed.webhook_dispatcher.finish()
    discard_tree(claimed.dirs.temporary)
    if claimed.machine.state in FINAL:
        discard_tree(claimed.dirs.root)
    claimed.context.observer.left(claimed.session.record)
