"""RetryListeners: whoever wants to hear of each call that is made again."""

from collections.abc import Callable
from typing import Final

Listener = Callable[[str, BaseException | None], None]
"""Is told the call (`store get`) and the error, or None if the answer was half a success. Must not fail."""

NOT_ACCEPTED: Final = "not_accepted"


class RetryListeners:
    """Tells its listeners, in the thread that makes the call."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell *listener* from now on."""
        self._listeners.append(listener)

    def tell(self, call: str, error: BaseException | None) -> None:
        """*call* met *error*, and is made again."""
        for listener in self._listeners:
            listener(call, error)
