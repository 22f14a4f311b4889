"""A thread that does one thing again and again, at a pace that may change."""

from collections.abc import Callable

from attrs import frozen

from lifecycle.ports.clock import Clock, Mailbox, Thread

Action = Callable[[], float | None]
"""One round. Returns the seconds until the next one, or None to end the thread."""


@frozen
class _Stop:
    """Request to end the thread."""


class PeriodicThread:
    """Repeats *action* until it returns None, raises, or `stop` is called.

    Args:
        clock: Time and threads.
        name: Name of the thread.
        action: One round of the work.
        first_s: Seconds until the first round.
        on_stopped: Called in the thread once `stop` was called, for what is left to do.
        on_error: Called in the thread with an exception that *action* or *on_stopped* raised; the thread then ends.
        yields: Whether the workload and other threads come first (see `Clock.start_thread`).
    """

    def __init__(
        self,
        clock: Clock,
        *,
        name: str,
        action: Action,
        first_s: float,
        on_error: Callable[[Exception], None],
        on_stopped: Callable[[], None] = lambda: None,
        yields: bool = False,
    ) -> None:
        self._action = action
        self._first_s = first_s
        self._on_error = on_error
        self._on_stopped = on_stopped
        self._inbox: Mailbox[_Stop] = clock.mailbox()
        self._thread: Thread = clock.start_thread(self._run, name=name, yields=yields)

    def request_stop(self) -> None:
        """End the thread after the round under way. Never waits; safe to repeat."""
        self._inbox.put(_Stop())

    def stop(self, *, timeout_s: float) -> bool:
        """End the thread after the round under way, and return whether it ended in time. Safe to repeat."""
        self.request_stop()
        return self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s: float | None = self._first_s
        try:
            while wait_s is not None:
                if self._inbox.get(wait_s):
                    self._on_stopped()
                    return
                wait_s = self._action()
        except Exception as error:  # noqa: BLE001 - no thread may die in silence
            self._on_error(error)
