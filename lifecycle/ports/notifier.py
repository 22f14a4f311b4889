"""Notifier: brings notices of changes of state to whoever wants to know, at least once."""

from typing import Protocol

from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice


class Notifier(Protocol):
    """Brings one notice at a time. Thread-safe."""

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """Bring *notice* of the job that *keys* are of. Takes some twenty seconds at most.

        Returns once the receiver says that it has it. Calling twice is safe: the notice has the same id.

        Raises:
            RetryableError: It is not known to have it; deliver it again, after a while.
            PermanentError: It has read it and will never take it; delivering it again is in vain.
        """
