"""The worker: takes one message after the other, asks the record what is to be done, and does it."""

import json
import logging
import shutil
from datetime import timedelta
from typing import Final

from lifecycle.attempt.acknowledgement import Settlement
from lifecycle.attempt.attempt import JOIN_S, Attempt
from lifecycle.attempt.context import Services
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.observers import NOBODY
from lifecycle.attempt.outcome import Ending
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
from lifecycle.record.claiming import Judgement, Verdict, judge
from lifecycle.record.message import Call, read
from lifecycle.record.record_store import Held
from lifecycle.record.session import RecordKeeper

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
        services: The ports and the numbers.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._policy = services.policy
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
        self._idle_since = self._services.clock.monotonic()
        while not (self._draining or self._unfit or self._is_enough()):
            self._services.alive()
            delivery = self._receive()
            if delivery is not None:
                self._handle(delivery)
            if self._is_idle():
                log.info("idle for %s: leaving", self._policy.idle_exit)
                break
        return int(self._unfit)

    def _is_enough(self) -> bool:
        return bool(self._policy.max_jobs) and self._attempts >= self._policy.max_jobs

    def _is_idle(self) -> bool:
        """Whether there was no job for too long; messages that are only handed back are none."""
        limit_s = self._policy.idle_exit.total_seconds()
        return bool(limit_s) and self._services.clock.monotonic() - self._idle_since >= limit_s

    def _receive(self) -> Delivery | None:
        wait = min(LONGEST_POLL, self._policy.stop_grace, self._policy.idle_exit or LONGEST_POLL)
        try:
            delivery = self._services.queue.receive(hidden=self._policy.lease, wait=wait)
        except (RetryableError, ConfigError) as error:
            self._trouble(QUEUE, error)
            return None
        self._denied.pop(QUEUE, None)
        return delivery

    def _trouble(self, what: str, error: HoldfastError) -> None:
        """Wait a little; but a credential that has been refused again and again is wrong, not being changed."""
        now = self._services.clock.monotonic()
        if isinstance(error, ConfigError):
            first, last = self._denied.get(what, (now, now))
            first = first if now - last <= DENIED_S else now
            self._denied[what] = first, now
            if now - first > DENIED_S:
                raise error
        log.warning("%s: %s", what, error)
        self._services.clock.sleep(TROUBLE_S)

    def _handle(self, delivery: Delivery) -> None:
        """Do with one message what its record says."""
        services = self._services
        try:
            call = read(delivery.body, place=services.place, bucket=services.bucket, signer=services.signer)
        except RejectedMessageError as error:
            self._reject(delivery, str(error))
            return
        settlement = Settlement(services, call, delivery)
        if self._draining:
            settlement.hand_back(timedelta(0))
            return
        try:
            held = services.ledger.read(call.keys.record)
            first = held is None or not held.record.attempts
            archived = first and is_archived(services.store, call.keys)
        except InvalidRecordError as error:
            log.error("%s", error, extra={"job": call.keys.job})  # noqa: TRY400 - the traceback would say nothing more
            settlement.hand_back(UNINTELLIGIBLE)
            return
        except HoldfastError as error:
            settlement.hand_back(UNREADABLE)
            self._trouble(RECORD, error)
            return
        self._denied.pop(RECORD, None)
        self._act(judge(call, held, services.rng, archived=archived), call, delivery, held, settlement)

    def _act(
        self, judgement: Judgement, call: Call, delivery: Delivery, held: Held | None, settlement: Settlement
    ) -> None:
        job = call.keys.job
        log.info("%s: %s: %s", job, judgement.verdict.value, judgement.why, extra={"job": job})
        match judgement.verdict:
            case Verdict.TAKE:
                self._try(call, delivery, held, settlement)
            case Verdict.HAND_BACK:
                settlement.hand_back(judgement.delay)
            case Verdict.DISCARD:
                settlement.delete()
            case Verdict.REJECT:
                self._reject(delivery, judgement.why)
            case Verdict.PUBLISH if held is not None:
                self._publish(call, delivery, held, settlement)

    def _publish(self, call: Call, delivery: Delivery, held: Held, settlement: Settlement) -> None:
        """Publish what an attempt completed and could not publish.

        That may take long, so a heart beats: it keeps the delivery ours, and lets a health check know that we live.
        """
        services = self._services
        gap_s = services.policy.write_gap.total_seconds()
        keeper = RecordKeeper(
            services.ledger, services.clock, key=call.keys.record, held=held, write_gap_s=gap_s, observer=NOBODY
        )
        heartbeat = Heartbeat(services, keeper=keeper, delivery=delivery, events=services.clock.mailbox())
        try:
            settlement.publish(held.record, keeper.write)
        finally:
            heartbeat.stop(timeout_s=JOIN_S)

    def _try(self, call: Call, delivery: Delivery, held: Held | None, settlement: Settlement) -> None:
        """Make an attempt at the job."""
        self._forget_others(call.keys.job)
        attempt = self._attempt = Attempt(self._services, call, delivery, held)
        if self._draining:  # a signal came between the check and the line above
            attempt.drain()
        try:
            ending = attempt.run()
        except LeaseLostError as error:
            log.info("%s", error, extra={"job": call.keys.job})
            settlement.hand_back(self._policy.lease)
        except UnknownOutcomeError as error:
            log.warning("%s: the lease may be ours or not: %s", call.keys.job, error, extra={"job": call.keys.job})
            settlement.hand_back(UNREADABLE)
        except ConfigError as error:
            settlement.hand_back(UNREADABLE)
            self._trouble(LEASE, error)
        else:
            self._denied.pop(LEASE, None)
            self._attempts += 1
            self._heed(call.keys.job, ending)
        finally:
            self._attempt = None
            self._idle_since = self._services.clock.monotonic()

    def _heed(self, job: str, ending: Ending | None) -> None:
        if ending is None:
            return
        why = f": {ending.error}" if ending.error else ""
        log.info("%s: %s%s", job, ending.cause, why, extra={"job": job})
        if ending.wants_new_node:
            self._unfit = True
            self._services.node.reallocate(ending.error or ending.cause)

    def _forget_others(self, job: str) -> None:
        """Keep no other job's files here: at most one unfinished job's, for the case that it comes back."""
        directory = self._services.work_dir
        if directory.is_dir():
            for other in directory.iterdir():
                if other.name != job and other.is_dir():
                    shutil.rmtree(other, ignore_errors=True)

    def _reject(self, delivery: Delivery, why: str) -> None:
        """Keep a message that is no job, where an operator finds it; then, and only then, remove it."""
        services = self._services
        log.warning("message %s rejected: %s", delivery.message_id, why)
        kept = {"at": iso(services.clock.now()), "message": delivery.message_id, "why": why, "body": delivery.body}
        try:
            services.store.put(f"{services.place.rejected}{delivery.message_id}.json", json.dumps(kept).encode())
            services.queue.dead_letter(delivery, reason=why)
            services.queue.delete(delivery)
        except HoldfastError as error:
            log.warning("message %s could not be put aside: %s", delivery.message_id, error)
