"""Messages for another bucket or prefix: returned to the queue, never deleted.

A worker with a wrong BUCKET or PREFIX would otherwise empty the queue of those that it does not belong to.
"""

from collections import Counter
from datetime import timedelta
from typing import Final

from lifecycle.errors import ConfigError, ForeignMessageError, HoldfastError
from lifecycle.ports.queue import Delivery, JobQueue
from lifecycle.structured_log import StructuredLogger

DELAY: Final = timedelta(seconds=30)  # for the workers that the message belongs to
MOST: Final = 10  # different ones, before a worker that never had one of its own takes itself for misconfigured

log = StructuredLogger("holdfast.worker")


class ForeignMessages:
    """Returns foreign messages, and ends a worker that gets no others.

    Args:
        queue: Where they came from.
        served: Where this worker's own messages are for, in words.
    """

    def __init__(self, queue: JobQueue, served: str) -> None:
        self._queue = queue
        self._served = served
        self._seen: dict[str, str] | None = {}

    def note_own(self) -> None:
        """Note that the worker got a message of its own, so that it is not misconfigured."""
        self._seen = None

    def give_back(self, delivery: Delivery, error: ForeignMessageError) -> None:
        """Return *delivery* to the queue.

        Raises:
            ConfigError: It is the tenth different one, and the worker never had a message of its own.
        """
        log.warning("message.foreign", message=delivery.message_id, belongs_to=error, served=self._served)
        try:
            self._queue.release(delivery, delay=DELAY)
        except HoldfastError as problem:  # it becomes visible again by itself
            log.warning("message.not_given_back", message=delivery.message_id, error=problem)
        if self._seen is None:
            return
        self._seen[delivery.message_id] = str(error)
        if len(self._seen) >= MOST:
            owners = ", ".join(f"{count} for {owner}" for owner, count in Counter(self._seen.values()).most_common(3))
            raise ConfigError(
                f"the queue's messages belong to others: of {len(self._seen)}, {owners}, and none for {self._served}; "
                "check QUEUE_URL, BUCKET and PREFIX"
            )
