"""What becomes of the delivery once an attempt has ended: sent anew, handed back, or deleted.

The record is written by then, and it decides; so nothing here may fail the attempt. What the queue did not do, the next
receiver of the message does.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from lifecycle.attempt.context import WorkerContext
from lifecycle.checkpoint.publish import publish, with_publish_problem, with_published
from lifecycle.errors import HoldfastError, PermanentError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys
from lifecycle.machine import Change
from lifecycle.ports.queue import Delivery
from lifecycle.record.message import JobMessage, reannounce

PUBLISH_AGAIN: Final = timedelta(seconds=30)

log = logging.getLogger("holdfast.settle")


class Acknowledgement:
    """Settles one delivery.

    Args:
        context: Queue, store and bucket are used.
        message: What the message said.
        delivery: The delivery.
    """

    def __init__(self, context: WorkerContext, message: JobMessage, delivery: Delivery) -> None:
        self._context = context
        self._message = message
        self._delivery = delivery

    @property
    def _keys(self) -> JobKeys:
        return self._message.keys

    def send_anew(self, record: JobRecord) -> None:
        """Send a fresh message, then delete this one: between the two there are two, and the record decides."""
        following = reannounce(self._keys, record, record.dispatch + 1, bucket=self._context.bucket)
        try:
            refused = self._context.queue.send([following])
        except HoldfastError as error:
            log.warning("%s: no fresh message sent: %s", record.job, error, extra={"job": record.job})
            self.hand_back(timedelta(0))
            return
        if refused:
            log.warning("%s: no fresh message sent: %s", record.job, refused[0].reason, extra={"job": record.job})
            self.hand_back(timedelta(0))
        else:
            self.delete()

    def hand_back(self, delay: timedelta) -> None:
        """Let others see the message after *delay*."""
        self._quietly("hand back", lambda: self._context.queue.release(self._delivery, delay=delay))

    def delete(self) -> None:
        """Remove the message."""
        self._quietly("delete", lambda: self._context.queue.delete(self._delivery))

    def publish(self, record: JobRecord, mark: Callable[[Change], object]) -> None:
        """Publish a completed job's outputs, let *mark* write so in the record, and only then delete the message."""
        try:
            mark(self._publish(record))
        except HoldfastError as error:
            log.warning("%s: outputs not published yet: %s", record.job, error, extra={"job": record.job})
            self.hand_back(PUBLISH_AGAIN)
        else:
            self.delete()

    def _publish(self, record: JobRecord) -> Change:
        try:
            publish(self._context.store, self._context.clock, self._keys, record)
        except PermanentError as error:  # something committed is damaged, or a name that no key can have
            why = f"the outputs cannot be published: {error}"
            log.error("%s: %s", record.job, why, extra={"job": record.job})  # noqa: TRY400 - the traceback would say nothing more
            return lambda latest: with_publish_problem(latest, why)
        return with_published

    def _quietly(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except HoldfastError as error:
            log.warning("%s: could not %s the message: %s", self._keys.job, what, error, extra={"job": self._keys.job})
