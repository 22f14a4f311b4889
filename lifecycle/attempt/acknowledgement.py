"""Acknowledgement: what becomes of a delivery once its job's record is written.

The record decides, so nothing here may fail the attempt. What the queue did not do, the next receiver of the message
does.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from lifecycle.attempt.context import WorkerContext
from lifecycle.checkpoint.publish import publish, with_publish_problem, with_published
from lifecycle.errors import HoldfastError, PermanentError
from lifecycle.job_record import JobRecord
from lifecycle.machine import Change
from lifecycle.ports.queue import Delivery
from lifecycle.record.message import JobMessage, reannounce
from lifecycle.structured_log import StructuredLogger

PUBLISH_AGAIN: Final = timedelta(seconds=30)  # until the next receiver tries to publish

log = StructuredLogger("holdfast.acknowledgement")


class Acknowledgement:
    """Settles one delivery: releases it, or deletes it once everything that must come before has succeeded.

    Args:
        context: Queue, store and bucket are used.
        message: What was received.
        delivery: The delivery to settle.
    """

    def __init__(self, context: WorkerContext, message: JobMessage, delivery: Delivery) -> None:
        self._context = context
        self._keys = message.keys
        self._sequence = message.sequence
        self._delivery = delivery
        self._unfinished: timedelta | None = None

    def give_back(self, record: JobRecord, delay: timedelta, *, receive_limit: int | None) -> None:
        """Return the message of an unfinished job to the queue; before the queue moves it away, as a new message.

        Args:
            record: The job's record.
            delay: How long the message is hidden. A new one is visible at once.
            receive_limit: See `JobQueue.receive_limit`.
        """
        if receive_limit is None or self._delivery.receives < max(receive_limit // 2, 1):
            self.release(delay)
            return
        log.info("message.renewed", job=record.job, receives=self._delivery.receives)
        self._send(record, max(self._sequence, record.dispatch) + 1)
        if self._unfinished is not None:
            self._unfinished = delay
        self.delete()

    def send_continuation(self, record: JobRecord) -> None:
        """Send the job's next message. If that fails, `delete` releases the delivery instead, at once."""
        self._send(record, record.dispatch + 1)

    def _send(self, record: JobRecord, sequence: int) -> None:
        following = reannounce(self._keys, record, sequence, bucket=self._context.bucket)
        try:
            refused = [failure.reason for failure in self._context.queue.send([following])]
        except HoldfastError as error:
            refused = [str(error)]
        if refused:
            log.warning("continuation.not_sent", job=record.job, error=refused[0])
            self._unfinished = timedelta(0)

    def publish(self, record: JobRecord, write: Callable[[Change], object]) -> None:
        """Publish a completed job's outputs, and record with *write* that they are.

        If that fails, `delete` releases the delivery instead, and its next receiver publishes.
        """
        try:
            try:
                publish(self._context.store, self._context.clock, self._keys, record)
            except PermanentError as error:  # something committed is damaged, or no key can have that name
                log.error("outputs.refused", job=record.job, error=error)
                write(partial(with_publish_problem, why=f"the outputs cannot be published: {error}"))
            else:
                write(with_published)
        except HoldfastError as error:
            log.warning("outputs.not_published", job=record.job, error=error)
            self._unfinished = PUBLISH_AGAIN

    def delete(self) -> None:
        """Delete the message, unless something that had to come first has failed: then release it."""
        if self._unfinished is not None:
            self.release(self._unfinished)
            return
        try:
            self._context.queue.delete(self._delivery)
        except HoldfastError as error:
            log.warning("message.not_deleted", job=self._keys.job, error=error)

    def release(self, delay: timedelta) -> None:
        """Let other workers see the message after *delay*."""
        try:
            self._context.queue.release(self._delivery, delay=delay)
        except HoldfastError as error:
            log.warning("message.not_released", job=self._keys.job, error=error)
