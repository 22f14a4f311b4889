"""Total deadlines of network calls.

A socket's time-out starts again with every byte, so a server that sends one byte a second is never late. Here a call
has a deadline for all of it; when that is over, its connection is shut down, and the call fails like any other whose
connection broke. One thread keeps the deadlines of the whole process.
"""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from attrs import define, frozen

LATE: Final = "the answer came too slowly"
AGAIN_S: Final = 1.0  # until another look at a connection that is still being made, which has a time-out of its own


@frozen(kw_only=True)
class TimeLimit:
    """A deadline that grows with the number of bytes: a large transfer is late if it makes too little progress.

    Attributes:
        total_s: Seconds for a call without a body.
        least_rate: Bytes per second below which a transfer is late.
    """

    total_s: float
    least_rate: float

    def for_bytes(self, size_bytes: int) -> float:
        """Return the seconds for a call that sends *size_bytes*."""
        return self.total_s + self.more_for(size_bytes)

    def more_for(self, size_bytes: int) -> float:
        """Return the further seconds for an answer of *size_bytes*."""
        return size_bytes / self.least_rate


@define
class _Watched:
    deadline: float
    socket: Any


class Watchdog:
    """Shuts down the connections of calls whose deadline is over. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[Any, _Watched] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf

    def watch(self, connection: Any, seconds: float) -> None:
        """Begin a call over *connection*, an `http.client.HTTPConnection`, which has *seconds* from now."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._watched[connection] = _Watched(deadline, connection.sock)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            if deadline < self._wakes_at:
                self._changed.notify()

    def extend(self, connection: Any, seconds: float) -> None:
        """Give the call over *connection* more time, for the bytes that it is about to receive.

        Its socket is remembered, because a connection forgets that before the answer is read.

        Raises:
            TimeoutError: The deadline was over. `http.client` takes a connection that breaks among the headers of an
                answer for their end.
        """
        with self._changed:
            watched = self._watched.get(connection)
            if watched is None:
                raise TimeoutError(LATE)
            watched.deadline += seconds
            watched.socket = connection.sock or watched.socket

    def forget(self, connection: Any) -> bool:
        """End the call over *connection*, and return False if it had ended before. Safe to repeat."""
        with self._changed:
            return self._watched.pop(connection, None) is not None

    @contextmanager
    def within(self, connection: Any, seconds: float) -> Iterator[None]:
        """Make a call over *connection* inside.

        Raises:
            TimeoutError: The deadline was over, and the call did not notice.
        """
        self.watch(connection, seconds)
        try:
            yield
        except BaseException:
            self.forget(connection)
            raise
        if not self.forget(connection):
            raise TimeoutError(LATE)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for connection in [each for each, watched in self._watched.items() if watched.deadline <= now]:
                    self._break(connection, now)
                self._wakes_at = min((watched.deadline for watched in self._watched.values()), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else self._wakes_at - now)

    def _break(self, connection: Any, now: float) -> None:
        watched = self._watched[connection]
        used = connection.sock or watched.socket
        if used is None:
            watched.deadline = now + AGAIN_S
            return
        del self._watched[connection]
        with suppress(OSError, TypeError):  # closed meanwhile; or TLS inside TLS, which has no socket of its own
            socket.socket.shutdown(used, socket.SHUT_RDWR)  # not SSLSocket's, which another thread may be reading


WATCHDOG: Final = Watchdog()
"""The watchdog of this process."""
