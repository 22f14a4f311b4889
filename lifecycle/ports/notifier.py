"""Port for telling the outside world about changes of a job's state, such as a webhook. Delivers at least once."""

from typing import Protocol

from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice


class Notifier(Protocol):
    """Delivers notices to one receiver. Thread-safe."""

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """Deliver *notice* about the job of *keys*, and return once the receiver has confirmed it.

        Takes about twenty seconds at most. Calling twice is safe: the receiver recognises a repetition by the
        notice's id.

        Raises:
            RetryableError: The receiver has not confirmed it; deliver it again later.
            PermanentError: The receiver has read and refused it, and would refuse it again; drop it.
        """
