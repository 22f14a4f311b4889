"""RetryListeners: notify listeners, such as metrics, of each call that is retried."""

from collections.abc import Callable
from typing import Final

Listener = Callable[[str, BaseException | None], None]
"""Called with the port and method (`store get`) and the error; None if the call succeeded in part. Must not raise."""

NOT_ACCEPTED: Final = "not_accepted"


class RetryListeners:
    """Listeners, called in the thread that makes the call."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Notify *listener* from now on."""
        self._listeners.append(listener)

    def notify(self, call: str, error: BaseException | None) -> None:
        """Notify all listeners that *call* failed with *error* and will be retried."""
        for listener in self._listeners:
            listener(call, error)
