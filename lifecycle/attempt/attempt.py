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

from lifecycle.attempt.acknowledgement import Settlement
from lifecycle.attempt.checkpoint_scheduler import Checkpointer
from lifecycle.attempt.context import Services
from lifecycle.attempt.event_log import Journal
from lifecycle.attempt.events import DrainAsked, Event
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.log_shipper import Courier
from lifecycle.attempt.outcome import Account, Ending, closing, not_ready
from lifecycle.attempt.running import Running
from lifecycle.attempt.salad_demo import DemoFiles
from lifecycle.attempt.staging import EarlyEnd, Preparation, Ready
from lifecycle.attempt.supervisor import Watch
from lifecycle.attempt.uploader import Uploader
from lifecycle.attempt.webhook_dispatcher import Postman
from lifecycle.checkpoint.restore import Restored
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import Engine
from lifecycle.concurrency import Pace
from lifecycle.errors import ConfigError, LeaseLostError, PermanentError, RetryableError, UnknownOutcomeError
from lifecycle.job_record import JobRecord
from lifecycle.machine import Change, Lifecycle
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import JobDirs, Launch, RunningWorkload
from lifecycle.ports.store import ABSENT
from lifecycle.record.claiming import claim
from lifecycle.record.message import Call
from lifecycle.record.notifications import Notices
from lifecycle.record.record_store import Conflict, Held
from lifecycle.record.session import RecordKeeper
from lifecycle.states import FINAL, Edge, Facts, State, Trigger, Write

RETRY_S: Final = 2.0  # between two tries to write the last state
MARK_DIGITS: Final = 8  # hexadecimal ones, of the write that took the lease
JOIN_S: Final = 10.0  # for a thread in the middle of a call; a longer one ends with the process

log = logging.getLogger("holdfast.attempt")


class Attempt:
    """One attempt.

    Args:
        services: The ports and the numbers.
        call: What the message said.
        delivery: What woke us.
        held: The record as read; None if there is none yet.
    """

    def __init__(self, services: Services, call: Call, delivery: Delivery, held: Held | None) -> None:
        self._services = services
        self._call = call
        self._delivery = delivery
        self._held = held
        self._dirs = JobDirs(services.work_dir / call.keys.job)
        self._events: Mailbox[Event] = services.clock.mailbox()
        self._settlement = Settlement(services, call, delivery)
        self._machine = Lifecycle(
            held.record.state if held else State.QUEUED,
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
        self._notices = Notices(services.telling, call.keys, node=services.node.name, clock=services.clock)
        # Set as the attempt gets there.
        self._keeper: RecordKeeper
        self._taken_at = 0.0
        self._mark = ""
        self._journal: Journal
        self._heartbeat: Heartbeat
        self._courier: Courier
        self._postman: Postman | None = None
        self._ending: Ending | None = None
        self._demo: DemoFiles | None = None
        self._child: RunningWorkload | None = None
        self._uploader: Uploader | None = None
        self._checkpointer: Checkpointer | None = None
        self._watch: Watch | None = None

    def drain(self) -> None:
        """Save, hand the job back, end. Safe from a signal handler, and to repeat."""
        self._events.put(DrainAsked())

    def run(self) -> Ending | None:
        """Take the lease, and carry the job as far as this attempt gets.

        Returns:
            How it ended; None if another epoch owns the job now.

        Raises:
            LeaseLostError: Somebody else took the lease first; nothing was changed.
            UnknownOutcomeError: Whether the lease was taken is not known; hand the message back.
        """
        self._machine.fire(Trigger.TAKE, facts=Facts())
        self._heartbeat = Heartbeat(self._services, keeper=self._keeper, delivery=self._delivery, events=self._events)
        self._courier = Courier(
            self._services,
            self._call.keys,
            epoch=self._keeper.record.epoch,
            journal=self._journal,
            dirs=self._dirs,
        )
        if self._services.telling:
            self._postman = Postman(self._services, self._services.telling.herald, self._call.keys, keeper=self._keeper)
        try:
            self._ending = self._carry()
            self._end(self._ending)
        except LeaseLostError as error:
            self._ending = None
            self._end_superseded(str(error))
        finally:
            self._close()
        return self._ending

    # ---- hooks: before and after a change of state ----

    def _write_record(self, edge: Edge, change: Change) -> None:
        """Bring the change to the record, when the edge says; if that fails, the state stays as it was."""
        notice = self._notices.of(edge, self._ending)

        def enter(record: JobRecord) -> JobRecord:
            return notice(evolve(change(record), state=edge.destination))

        if edge.trigger is Trigger.TAKE:
            self._take(notice)
        elif edge.write is Write.AT_ONCE:
            self._keeper.write(enter)
        elif edge.write is Write.NEXT_BEAT:
            self._keeper.note(edge.trigger, enter)

    def _observe(self, edge: Edge) -> None:
        self._notices.entered()
        self._services.observer.entered(edge, self._keeper.record)

    def _take(self, notice: Change) -> None:
        services, keys = self._services, self._call.keys
        record = claim(self._call, self._held, node=services.node, policy=services.policy, now=services.clock.now())
        answer = services.ledger.write(keys.record, notice(record), self._held.version if self._held else ABSENT)
        if isinstance(answer, Conflict):
            raise LeaseLostError(f"{keys.job}: somebody else took the lease first")
        self._taken_at, self._mark = services.clock.monotonic(), answer.record.write_id[:MARK_DIGITS]
        gap_s = services.policy.write_gap.total_seconds()
        self._keeper = RecordKeeper(
            services.ledger,
            services.clock,
            key=keys.record,
            held=answer,
            write_gap_s=gap_s,
            observer=services.observer,
        )
        self._journal = Journal(services.clock, services.observer, epoch=record.epoch, node=services.node.name)
        self._journal.write("received", message=self._delivery.message_id, receives=self._delivery.receives)

    def _queue_snapshot(self, edge: Edge) -> None:
        if edge.trigger is Trigger.CHECKPOINT and self._checkpointer:
            self._checkpointer.on_entered_checkpointing()

    def _send_anew(self, _: Edge) -> None:
        self._heartbeat.stop(timeout_s=JOIN_S)
        self._settlement.send_anew(self._keeper.record)

    def _hand_back(self, _: Edge) -> None:
        self._heartbeat.stop(timeout_s=JOIN_S)
        self._settlement.hand_back(self._ending.delay if self._ending else timedelta(0))

    def _publish(self, _: Edge) -> None:
        # The heart beats on meanwhile: publishing may take long, and the delivery had better stay ours.
        self._settlement.publish(self._keeper.record, self._keeper.write)

    def _delete(self, _: Edge) -> None:
        self._settlement.delete()

    # ---- the way ----

    def _carry(self) -> Ending:
        record, limit = self._keeper.record, self._services.policy.max_deaths
        if record.control.cancel:
            return Ending(Trigger.CANCEL, "cancelled")
        if record.deaths >= limit:
            return Ending(Trigger.FAIL, "deaths", error=f"{record.deaths} nodes in a row vanished without a checkpoint")
        try:
            ready = self._prepare(record)
            self._child = self._services.runner.start(ready.launch)
        except EarlyEnd as early:
            return early.ending
        except (PermanentError, RetryableError, ConfigError, OSError) as error:
            return not_ready(error)
        return self._supervise(ready.launch, ready.restored, self._child)

    def _prepare(self, record: JobRecord) -> Ready:
        services, keys = self._services, self._call.keys
        if record.demo:
            self._demo = DemoFiles(services.store, services.clock, keys=keys, node=services.node.name)
            self._demo.began(record)
        ready = Preparation(
            services=services,
            keys=keys,
            dirs=self._dirs,
            events=self._events,
            journal=self._journal,
            demo=self._demo,
        ).ready(record)
        step = ready.restored.ref.step if ready.restored else None
        resumed = ready.launch.resumed
        self._journal.write("resumed" if resumed else "input_loaded", step=step)
        self._machine.fire(
            Trigger.RESUME if resumed else Trigger.LOAD_INPUT,
            facts=Facts(restored=resumed),
            change=lambda latest: latest.with_attempt(resumed_step=step),
        )
        return ready

    def _supervise(self, launch: Launch, restored: Restored | None, child: RunningWorkload) -> Ending:
        prepared_s = round(self._services.clock.monotonic() - self._taken_at, 3)
        self._machine.fire(Trigger.START, change=lambda latest: latest.with_attempt(prepared_s=prepared_s))
        self._journal.write("running", workload=launch.workload.name)
        services = self._services
        engine = Engine(
            services.store,
            services.clock,
            keys=self._call.keys,
            epoch=self._keeper.record.epoch,
            mark=self._mark,
            sizes=services.sizes,
            pace=Pace(services.clock, services.policy.upload_limit),
        )
        self._uploader = Uploader(
            engine,
            services.clock,
            kept=(restored.known,) if restored else (),
            check=partial(self._check, launch),
            events=self._events,
            journal=self._journal,
            after_commit=self._after_commit,
        )
        running = Running(
            services=self._services,
            delivery=self._delivery,
            launch=launch,
            child=child,
            machine=self._machine,
            keeper=self._keeper,
            uploader=self._uploader,
            events=self._events,
            journal=self._journal,
            resumed_from=restored.ref if restored else None,
        )
        self._checkpointer = Checkpointer(running)
        self._watch = Watch(running, self._checkpointer)
        return self._watch.until_end()

    def _check(self, launch: Launch, snapshot: Snapshot) -> str | None:
        """In the uploader's thread: what the workload's own check has to say of a checkpoint."""
        return None if snapshot.is_result else self._services.runner.check(launch, snapshot.directory)

    def _after_commit(self, snapshot: Snapshot) -> None:
        """In the uploader's thread, after each commit: bring the demo's own files up to it."""
        if self._demo and self._keeper.record.result is None:
            self._demo.committed(snapshot, self._keeper.record.progress)

    # ---- the end ----

    def _end(self, ending: Ending) -> None:
        """Write the attempt's last state, again until it is known to be written; the hooks settle the rest."""
        account = Account(
            began=self._keeper.record,
            useful_s=self._watch.useful_s if self._watch else 0.0,
            steps=self._watch.steps if self._watch else 0,
            commits=self._checkpointer.commits if self._checkpointer else 0,
        )
        change = closing(ending, account, self._services.clock.now())
        give_up = self._services.clock.monotonic() + self._services.policy.patience.total_seconds()
        while True:
            try:
                self._machine.fire(ending.trigger, change=change)
            except UnknownOutcomeError as error:
                log.warning("%s: %s is not recorded yet: %s", self._call.keys.job, ending.cause, error)
                if self._services.clock.monotonic() > self._leave_by(give_up):
                    return  # the message will be seen again by itself, soon after the lease is over
                self._services.clock.sleep(RETRY_S)
            else:
                break
        self._journal.write(ending.cause, error=ending.error)
        if ending.commits_last and self._uploader:
            self._uploader.committed()

    def _leave_by(self, otherwise: float) -> float:
        leave_by = self._watch.leave_by if self._watch else None
        return leave_by if leave_by is not None else otherwise

    def _end_superseded(self, why: str) -> None:
        """Another epoch owns the job: nothing more is written."""
        log.warning("%s: superseded: %s", self._call.keys.job, why)
        if self._postman:
            self._postman.stop()
        self._machine.fire(Trigger.SUPERSEDE)

    def _close(self) -> None:
        """Leave nothing running, and nothing on the disk that no later attempt here could use."""
        if self._child:
            self._child.kill()
        self._heartbeat.stop(timeout_s=JOIN_S)
        if self._uploader:
            self._uploader.stop(timeout_s=JOIN_S)
        has_stopped = self._courier.stop(timeout_s=JOIN_S)
        if self._ending and has_stopped:
            self._keep_logs(self._ending)
        if self._ending and self._postman:
            self._postman.finish()
        if self._machine.state in FINAL:
            shutil.rmtree(self._dirs.root, ignore_errors=True)
        self._services.observer.left(self._keeper.record)

    def _keep_logs(self, ending: Ending) -> None:
        self._courier.ship()
        if self._demo:
            self._demo.ended(self._keeper.record, ending.cause)
