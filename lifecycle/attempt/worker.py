"""The worker: receives one message after another, decides by the job's record what to do with it, and does it."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Final

from attrs import evolve

from lifecycle.attempt import defects
from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.attempt.attempt import Attempt
from lifecycle.attempt.bucket_workers import BucketWorkers
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.effects import JOIN_S
from lifecycle.attempt.foreign_messages import ForeignMessages
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.kept_deliveries import KeptDeliveries
from lifecycle.attempt.observers import NO_OBSERVERS
from lifecycle.attempt.outcome import LONGEST_DELAY, MISFIT, MOST_DOUBLINGS, Outcome
from lifecycle.attempt.refusals import Refusals
from lifecycle.attempt.self_assessment import SelfAssessment
from lifecycle.checkpoint.tree import discard_tree
from lifecycle.errors import (
    ConfigError,
    ForeignMessageError,
    HoldfastError,
    InvalidRecordError,
    LeaseLostError,
    RejectedMessageError,
    RetryableError,
    UnknownOutcomeError,
)
from lifecycle.job_record import iso
from lifecycle.ports.queue import Delivery
from lifecycle.record.archive_format import is_archived
from lifecycle.record.claiming import ClaimAction, ClaimDecision, decide
from lifecycle.record.message import JobMessage, parse_message
from lifecycle.record.record_store import RecordStore, StoredRecord
from lifecycle.record.session import RecordSession
from lifecycle.record.sightings import RecordSightings
from lifecycle.structured_log import StructuredLogger

LONGEST_POLL: Final = timedelta(seconds=10)  # an idle worker that is told to stop exits within it
TROUBLE_S: Final = 5.0  # pause after the queue or the store did not answer, despite all retries
DENIED_S: Final = 120.0  # R2 may take up to a minute to accept a changed key
BACK_OFF_TICK_S: Final = 5.0  # a worker that backs off and is told to stop exits within it
UNREADABLE: Final = timedelta(seconds=15)
UNINTELLIGIBLE: Final = timedelta(minutes=2)  # a newer Holdfast wrote the record: leave it to a newer worker

log = StructuredLogger("holdfast.worker")


class Worker:
    """Works until it is drained, idle for too long, or has made enough attempts.

    Args:
        context: The worker's ports and limits.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._limits = context.limits
        self._draining = False
        self._attempt: Attempt | None = None
        self._attempts = 0
        self._idle_since = 0.0
        self._unfit = False
        self._denied: dict[str, tuple[float, float]] = {}
        self._others = BucketWorkers(self._worker_of, context.signer)
        self._sightings = RecordSightings(context.record_store, context.clock)
        self._kept = KeptDeliveries(context.queue, context.clock)
        served = f"bucket {context.bucket!r} and prefix {context.layout.prefix!r}"
        self._foreign = ForeignMessages(context.queue, served)
        self._assessment = SelfAssessment(context.clock, context.limits)
        self._refusals = Refusals(context, self._assessment)

    def drain(self) -> None:
        """Take no more jobs; save, release and end the one that runs. Safe from a signal handler, and to repeat."""
        self._draining = True
        self._others.drain()
        if self._attempt:
            self._attempt.drain()

    def run(self) -> int:
        """Work.

        Returns:
            The exit code: 0, or 1 if this node is unfit and asked to be replaced.

        Raises:
            ConfigError: A credential, the queue or the bucket has been refused for DENIED_S, or the queue holds only
                messages for another bucket or prefix; nothing is taken.
        """
        self._idle_since = self._context.clock.monotonic()
        while not (self._draining or self._unfit or self._has_made_enough()):
            self._context.alive()
            if back_off_s := self._assessment.back_off_s:
                self._context.clock.sleep(min(back_off_s, BACK_OFF_TICK_S))
                continue
            if (kept := self._kept.next_due()) is not None:
                self._dispatch(kept, is_kept=True)
            elif (delivery := self._receive()) is not None:
                self._dispatch(delivery)
            if self._is_idle():
                log.info("worker.idled_out", idle_exit=self._limits.idle_exit)
                break
        return int(self._unfit)

    def _has_made_enough(self) -> bool:
        return bool(self._limits.max_jobs) and self._attempts >= self._limits.max_jobs

    def _is_idle(self) -> bool:
        """Return whether there was no job for too long; messages that are only released do not count."""
        limit_s = self._limits.idle_exit.total_seconds()
        return bool(limit_s) and self._context.clock.monotonic() - self._idle_since >= limit_s

    def _receive(self) -> Delivery | None:
        wait = min(LONGEST_POLL, self._limits.stop_grace, self._limits.idle_exit or LONGEST_POLL)
        try:
            delivery = self._context.queue.receive(hidden=self._limits.lease, wait=self._kept.wait_until_due(wait))
        except (RetryableError, ConfigError) as error:
            self._pause("queue.unreadable", error)
            return None
        self._denied.pop("queue.unreadable", None)
        return delivery

    def _pause(self, event: str, error: HoldfastError) -> None:
        """Wait a little; but a credential that has been refused again and again is wrong, not being rotated."""
        now = self._context.clock.monotonic()
        if isinstance(error, ConfigError):
            first, last = self._denied.get(event, (now, now))
            first = first if now - last <= DENIED_S else now
            self._denied[event] = first, now
            if now - first > DENIED_S:
                raise error
        log.warning("worker.paused", cause=event, error=error)
        self._context.clock.sleep(TROUBLE_S)

    def _dispatch(self, delivery: Delivery, *, is_kept: bool = False) -> None:
        """Handle a message, or let the worker of the bucket that it names do so."""
        if self._context.open_bucket is None:
            self._handle_safely(delivery, is_kept=is_kept)
        else:
            self._hand_on(delivery, is_kept=is_kept)

    def _worker_of(self, bucket: str) -> "Worker":
        """Make the worker that serves *bucket* for this one, which has none.

        Raises:
            ConfigError: The bucket cannot be used.
            RetryableError: It cannot be reached.
        """
        context = self._context
        assert context.open_bucket is not None  # noqa: S101 - the caller knows
        store = context.open_bucket(bucket)
        log.info("bucket.opened", bucket=bucket)
        records = RecordStore(store, context.clock, context.rng)
        worker = Worker(evolve(context, store=store, record_store=records, bucket=bucket, open_bucket=None))
        worker._kept = self._kept
        worker._assessment = self._assessment  # of one node
        worker._refusals = Refusals(worker._context, self._assessment)
        return worker

    def _hand_on(self, delivery: Delivery, *, is_kept: bool) -> None:
        """Let the worker of the bucket that a message names handle it; return the message if there is none."""
        queue = self._context.queue
        try:
            worker = self._others.worker_for(delivery.body)
        except RejectedMessageError as error:
            log.warning("message.without_bucket", message=delivery.message_id, reason=error)
            with suppress(HoldfastError):
                queue.release(delivery, delay=UNINTELLIGIBLE)
            return
        except HoldfastError as error:
            has_others = bool(tuple(self._others))
            with suppress(HoldfastError):
                queue.release(delivery, delay=UNINTELLIGIBLE if has_others else UNREADABLE)
            if has_others:
                log.warning("bucket.unusable", message=delivery.message_id, error=error)
            else:
                self._pause("bucket.unusable", error)  # no bucket could be used yet: the keys may be wrong
            return
        # Workers of one class, and of one node:
        worker._idle_since = self._idle_since  # noqa: SLF001
        worker._handle_safely(delivery, is_kept=is_kept)  # noqa: SLF001
        self._idle_since, self._unfit = worker._idle_since, worker._unfit  # noqa: SLF001
        self._attempts = sum(other._attempts for other in self._others)  # noqa: SLF001

    def _handle_safely(self, delivery: Delivery, *, is_kept: bool = False) -> None:
        """Handle one message; an unexpected exception is Holdfast's fault, and the worker goes on without that job."""
        try:
            self._handle(delivery, is_kept=is_kept)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - what was not foreseen
            defects.log_defect(delivery.message_id, error)
            delay = min(UNREADABLE * 2 ** min(delivery.receives, MOST_DOUBLINGS), LONGEST_DELAY)
            try:
                self._context.queue.release(delivery, delay=delay)
            except HoldfastError as refused:
                log.warning("message.not_released", job=delivery.message_id, error=refused)

    def _handle(self, delivery: Delivery, *, is_kept: bool = False) -> None:
        """Do with one message what its job's record says.

        Args:
            delivery: The message.
            is_kept: Whether it was kept since an earlier look at the record.
        """
        context = self._context
        message = self._parse(delivery)
        if message is None:
            return
        acknowledgement = Acknowledgement(context, message, delivery)
        if self._draining:
            acknowledgement.release(timedelta(0))
            return
        try:
            stored = self._sightings.read(message.keys.record)
            first = stored is None or not stored.record.attempts
            archived = first and is_archived(context.store, message.keys)
        except InvalidRecordError as error:
            log.error("record.not_understood", job=message.keys.job, error=error)
            acknowledgement.release(UNINTELLIGIBLE)
            return
        except HoldfastError as error:
            acknowledgement.release(UNREADABLE)
            self._pause("record.unreadable", error)
            return
        self._denied.pop("record.unreadable", None)
        if message.is_addressed or message.draft or stored:
            self._foreign.note_own()
        decision = decide(message, stored, context.rng, archived=archived)
        log.info("job.decided", job=message.keys.job, action=decision.action.value, reason=decision.reason)
        if decision.action is ClaimAction.RELEASE and self._sightings.is_bound(message.keys.record) and not is_kept:
            self._kept.keep(delivery, decision.delay)
        else:
            self._carry_out(decision, message, delivery, stored, acknowledgement)

    def _carry_out(
        self,
        decision: ClaimDecision,
        message: JobMessage,
        delivery: Delivery,
        stored: StoredRecord | None,
        acknowledgement: Acknowledgement,
    ) -> None:
        match decision.action:
            case ClaimAction.TAKE if stored and (delay := self._refusals.delay_of(stored, delivery)):
                acknowledgement.give_back(stored.record, delay, receive_limit=self._refusals.limit_of(delivery))
            case ClaimAction.TAKE:
                self._attempt_job(message, delivery, stored, acknowledgement)
            case ClaimAction.RELEASE if stored:
                acknowledgement.give_back(
                    stored.record, decision.delay, receive_limit=self._refusals.limit_of(delivery)
                )
            case ClaimAction.RELEASE:
                acknowledgement.release(decision.delay)
            case ClaimAction.DISCARD:
                acknowledgement.delete()
            case ClaimAction.REJECT:
                self._reject(delivery, decision.reason)
            case ClaimAction.PUBLISH if stored is not None:
                self._publish(message, delivery, stored, acknowledgement)

    def _parse(self, delivery: Delivery) -> JobMessage | None:
        """Return the message that was received; None if it is not a job of this worker's, and was dealt with.

        Raises:
            ConfigError: This worker gets messages of others only.
        """
        context = self._context
        try:
            return parse_message(delivery.body, layout=context.layout, bucket=context.bucket, signer=context.signer)
        except ForeignMessageError as error:
            self._foreign.give_back(delivery, error)
        except RejectedMessageError as error:
            self._reject(delivery, str(error))
        return None

    def _publish(
        self, message: JobMessage, delivery: Delivery, stored: StoredRecord, acknowledgement: Acknowledgement
    ) -> None:
        """Publish what an attempt completed and could not publish.

        That may take long, so a heartbeat keeps the delivery, and tells the health check that the worker is alive.
        """
        context = self._context
        session = RecordSession(
            context.record_store,
            context.clock,
            key=message.keys.record,
            stored=stored,
            write_gap=context.limits.write_gap,
            observer=NO_OBSERVERS,
        )
        heartbeat = Heartbeat(context, session=session, delivery=delivery, events=context.clock.mailbox())
        try:
            acknowledgement.publish(stored.record, session.write)
            acknowledgement.delete()
        finally:
            heartbeat.stop(timeout_s=JOIN_S)

    def _attempt_job(
        self, message: JobMessage, delivery: Delivery, stored: StoredRecord | None, acknowledgement: Acknowledgement
    ) -> None:
        """Make an attempt at the job."""
        job = message.keys.job
        idle_since: float | None = None
        self._remove_other_jobs(job)
        attempt = self._attempt = Attempt(self._context, message, delivery, stored)
        if self._draining:  # a signal came between the check and the line above
            attempt.drain()
        try:
            outcome = attempt.run()
        except LeaseLostError as error:
            log.info("job.claimed_by_another", job=job, error=error)
            acknowledgement.release(self._limits.lease)
        except UnknownOutcomeError as error:
            log.warning("job.claim_unconfirmed", job=job, error=error)
            acknowledgement.release(UNREADABLE)
        except ConfigError as error:
            acknowledgement.release(UNREADABLE)
            self._pause("lease.refused", error)
        else:
            self._denied.pop("lease.refused", None)
            if outcome and outcome.cause == MISFIT:
                idle_since = self._idle_since
            else:
                self._attempts += 1
            self._on_attempt_ended(job, outcome)
        finally:
            self._attempt = None
            self._idle_since = self._context.clock.monotonic() if idle_since is None else idle_since

    def _on_attempt_ended(self, job: str, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        log.info("attempt.ended", job=job, outcome=outcome.cause, error=outcome.error)
        self._assessment.leave_to_others(job, outcome.elsewhere_for)
        unfit = self._assessment.learn(job, against_node=outcome.against_node)
        if back_off_s := self._assessment.back_off_s:
            log.warning("node.backs_off", seconds=round(back_off_s), failed_jobs=self._limits.max_failed_jobs)
        if outcome.wants_new_node or unfit:
            self._unfit = True
            self._context.node.reallocate(unfit or outcome.error or outcome.cause)

    def _remove_other_jobs(self, job: str) -> None:
        """Keep the files of at most one unfinished job, in case it comes back."""
        directory = self._context.work_dir
        if directory.is_dir():
            for other in directory.iterdir():
                if other.name != job and other.is_dir():
                    discard_tree(other)

    def _reject(self, delivery: Delivery, reason: str) -> None:
        """Keep a message that is not a job where an operator finds it; then, and only then, delete it."""
        context = self._context
        log.warning("message.rejected", message=delivery.message_id, reason=reason)
        kept = {"at": iso(context.clock.now()), "message": delivery.message_id, "why": reason, "body": delivery.body}
        try:
            context.store.put(f"{context.layout.rejected}{delivery.message_id}.json", json.dumps(kept).encode())
            context.queue.dead_letter(delivery, reason=reason)
            context.queue.delete(delivery)
        except HoldfastError as error:
            log.warning("message.not_rejected", message=delivery.message_id, error=error)
