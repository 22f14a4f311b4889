"""The worker: takes one message after the other, asks the record what is to be done, and does it."""

import json
import logging
import shutil
from datetime import timedelta
from typing import Final

from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.attempt.attempt import JOIN_S, Attempt
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.observers import NOBODY
from lifecycle.attempt.outcome import Outcome
from lifecycle.errors import (
    ConfigError,
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
from lifecycle.record.record_store import StoredRecord
from lifecycle.record.session import RecordSession

LONGEST_POLL: Final = timedelta(seconds=10)  # a stopping worker that is idle leaves within it
TROUBLE_S: Final = 5.0  # the queue or the store did not answer, after all retries
DENIED_S: Final = 120.0  # R2 takes up to a minute to know a changed key (facts: consistency)
QUEUE: Final = "the queue cannot be read"
RECORD: Final = "the record cannot be read"
LEASE: Final = "the lease cannot be taken"
UNREADABLE: Final = timedelta(seconds=15)
UNINTELLIGIBLE: Final = timedelta(minutes=2)  # a newer Holdfast wrote the record: for a newer worker to take

log = logging.getLogger("holdfast.worker")


class Worker:
    """Works until it is drained, idle for too long, or has had enough jobs.

    Args:
        context: The ports and the numbers.
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

    def drain(self) -> None:
        """Take nothing more; save, hand back and end what runs. Safe from a signal handler, and to repeat."""
        self._draining = True
        if self._attempt:
            self._attempt.drain()

    def run(self) -> int:
        """Work.

        Returns:
            The exit code: 0, or 1 if this node is unfit and asked to be replaced.

        Raises:
            ConfigError: A credential, the queue or the bucket has been refused for DENIED_S; nothing is taken.
        """
        self._idle_since = self._context.clock.monotonic()
        while not (self._draining or self._unfit or self._is_enough()):
            self._context.alive()
            delivery = self._receive()
            if delivery is not None:
                self._handle(delivery)
            if self._is_idle():
                log.info("idle for %s: leaving", self._limits.idle_exit)
                break
        return int(self._unfit)

    def _is_enough(self) -> bool:
        return bool(self._limits.max_jobs) and self._attempts >= self._limits.max_jobs

    def _is_idle(self) -> bool:
        """Whether there was no job for too long; messages that are only handed back are none."""
        limit_s = self._limits.idle_exit.total_seconds()
        return bool(limit_s) and self._context.clock.monotonic() - self._idle_since >= limit_s

    def _receive(self) -> Delivery | None:
        wait = min(LONGEST_POLL, self._limits.stop_grace, self._limits.idle_exit or LONGEST_POLL)
        try:
            delivery = self._context.queue.receive(hidden=self._limits.lease, wait=wait)
        except (RetryableError, ConfigError) as error:
            self._trouble(QUEUE, error)
            return None
        self._denied.pop(QUEUE, None)
        return delivery

    def _trouble(self, what: str, error: HoldfastError) -> None:
        """Wait a little; but a credential that has been refused again and again is wrong, not being changed."""
        now = self._context.clock.monotonic()
        if isinstance(error, ConfigError):
            first, last = self._denied.get(what, (now, now))
            first = first if now - last <= DENIED_S else now
            self._denied[what] = first, now
            if now - first > DENIED_S:
                raise error
        log.warning("%s: %s", what, error)
        self._context.clock.sleep(TROUBLE_S)

    def _handle(self, delivery: Delivery) -> None:
        """Do with one message what its record says."""
        context = self._context
        try:
            message = parse_message(delivery.body, layout=context.layout, bucket=context.bucket, signer=context.signer)
        except RejectedMessageError as error:
            self._reject(delivery, str(error))
            return
        acknowledgement = Acknowledgement(context, message, delivery)
        if self._draining:
            acknowledgement.hand_back(timedelta(0))
            return
        try:
            stored = context.record_store.read(message.keys.record)
            first = stored is None or not stored.record.attempts
            archived = first and is_archived(context.store, message.keys)
        except InvalidRecordError as error:
            log.error("%s", error, extra={"job": message.keys.job})  # noqa: TRY400 - the traceback would say nothing more
            acknowledgement.hand_back(UNINTELLIGIBLE)
            return
        except HoldfastError as error:
            acknowledgement.hand_back(UNREADABLE)
            self._trouble(RECORD, error)
            return
        self._denied.pop(RECORD, None)
        self._act(decide(message, stored, context.rng, archived=archived), message, delivery, stored, acknowledgement)

    def _act(
        self,
        decision: ClaimDecision,
        message: JobMessage,
        delivery: Delivery,
        stored: StoredRecord | None,
        acknowledgement: Acknowledgement,
    ) -> None:
        job = message.keys.job
        log.info("%s: %s: %s", job, decision.verdict.value, decision.why, extra={"job": job})
        match decision.verdict:
            case ClaimAction.TAKE:
                self._try(message, delivery, stored, acknowledgement)
            case ClaimAction.HAND_BACK:
                acknowledgement.hand_back(decision.delay)
            case ClaimAction.DISCARD:
                acknowledgement.delete()
            case ClaimAction.REJECT:
                self._reject(delivery, decision.why)
            case ClaimAction.PUBLISH if stored is not None:
                self._publish(message, delivery, stored, acknowledgement)

    def _publish(
        self, message: JobMessage, delivery: Delivery, stored: StoredRecord, acknowledgement: Acknowledgement
    ) -> None:
        """Publish what an attempt completed and could not publish.

        That may take long, so a heart beats: it keeps the delivery ours, and lets a health check know that we live.
        """
        context = self._context
        gap_s = context.limits.write_gap.total_seconds()
        session = RecordSession(
            context.record_store,
            context.clock,
            key=message.keys.record,
            stored=stored,
            write_gap_s=gap_s,
            observer=NOBODY,
        )
        heartbeat = Heartbeat(context, session=session, delivery=delivery, events=context.clock.mailbox())
        try:
            acknowledgement.publish(stored.record, session.write)
        finally:
            heartbeat.stop(timeout_s=JOIN_S)

    def _try(
        self, message: JobMessage, delivery: Delivery, stored: StoredRecord | None, acknowledgement: Acknowledgement
    ) -> None:
        """Make an attempt at the job."""
        self._forget_others(message.keys.job)
        attempt = self._attempt = Attempt(self._context, message, delivery, stored)
        if self._draining:  # a signal came between the check and the line above
            attempt.drain()
        try:
            outcome = attempt.run()
        except LeaseLostError as error:
            log.info("%s", error, extra={"job": message.keys.job})
            acknowledgement.hand_back(self._limits.lease)
        except UnknownOutcomeError as error:
            log.warning(
                "%s: the lease may be ours or not: %s", message.keys.job, error, extra={"job": message.keys.job}
            )
            acknowledgement.hand_back(UNREADABLE)
        except ConfigError as error:
            acknowledgement.hand_back(UNREADABLE)
            self._trouble(LEASE, error)
        else:
            self._denied.pop(LEASE, None)
            self._attempts += 1
            self._heed(message.keys.job, outcome)
        finally:
            self._attempt = None
            self._idle_since = self._context.clock.monotonic()

    def _heed(self, job: str, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        why = f": {outcome.error}" if outcome.error else ""
        log.info("%s: %s%s", job, outcome.cause, why, extra={"job": job})
        if outcome.wants_new_node:
            self._unfit = True
            self._context.node.reallocate(outcome.error or outcome.cause)

    def _forget_others(self, job: str) -> None:
        """Keep no other job's files here: at most one unfinished job's, for the case that it comes back."""
        directory = self._context.work_dir
        if directory.is_dir():
            for other in directory.iterdir():
                if other.name != job and other.is_dir():
                    shutil.rmtree(other, ignore_errors=True)

    def _reject(self, delivery: Delivery, why: str) -> None:
        """Keep a message that is no job, where an operator finds it; then, and only then, remove it."""
        context = self._context
        log.warning("message %s rejected: %s", delivery.message_id, why)
        kept = {"at": iso(context.clock.now()), "message": delivery.message_id, "why": why, "body": delivery.body}
        try:
            context.store.put(f"{context.layout.rejected}{delivery.message_id}.json", json.dumps(kept).encode())
            context.queue.dead_letter(delivery, reason=why)
            context.queue.delete(delivery)
        except HoldfastError as error:
            log.warning("message %s could not be put aside: %s", delivery.message_id, error)
