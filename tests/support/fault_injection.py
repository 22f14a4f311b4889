"""Wrappers around real ports and clocks that let a test inject faults before and after each call."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lifecycle.ports.clock import Clock, Mailbox, Thread
from support.any_port import AnyPort


class Died(BaseException):
    """Simulated death of the process: no product code catches it, and no further call reaches a port."""


def unless_dead(run: Callable[[], object]) -> Callable[[], None]:
    """Return *run* as a thread function that ends quietly when its node dies."""

    def mortal() -> None:
        with suppress(Died):
            run()

    return mortal


class FaultInjection(AnyPort):
    """A port that calls *before* and *after* around each call of the real port.

    Args:
        port: The real port.
        before: Called with the method's name and arguments; may raise, and then the call is not made.
        after: Called with the same arguments after the call; may raise, and then the answer is lost.
    """

    def __init__(
        self,
        port: Any,
        *,
        before: Callable[..., None] = lambda *_, **__: None,
        after: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        self._port = port
        self.before = before
        self.after = after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.before(name, *args, **kwargs)
            answer = real(*args, **kwargs)
            self.after(name, *args, **kwargs)
            return answer

        return call


class FaultyNode:
    """A simulated node, with its view of ports and clock: alive, dead or suspended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.dead = False
        self.suspended = False
        self.calls: list[tuple[str, Any]] = []

    def around(self, port: Any) -> FaultInjection:
        """Return the node's view of a port."""
        return FaultInjection(port, before=self.note, after=self.check_alive)

    def clock(self) -> "MortalClock":
        """Return the node's view of the clock."""
        return MortalClock(self._clock, self)

    def note(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.check_alive()
        self.calls.append((name, args[0] if args else kwargs))

    def check_alive(self, *_: Any, **__: Any) -> None:
        while self.suspended:
            self._clock.sleep(1.0)
        if self.dead:
            raise Died


class MortalMailbox:
    def __init__(self, mailbox: Mailbox[Any], node: FaultyNode) -> None:
        self.put = mailbox.put
        self._get = mailbox.get
        self._node = node

    def get(self, timeout_s: float) -> Any:
        self._node.check_alive()
        item = self._get(timeout_s)
        self._node.check_alive()
        return item


class MortalThread:
    def __init__(self, thread: Thread, node: FaultyNode) -> None:
        self._thread = thread
        self._node = node

    def join(self, timeout_s: float) -> bool:
        self._node.check_alive()
        ended = self._thread.join(timeout_s)
        self._node.check_alive()
        return ended


class MortalClock:
    """A clock on which the node may die or be suspended at every wait."""

    def __init__(self, clock: Clock, node: FaultyNode) -> None:
        self._clock = clock
        self._node = node
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.lock = clock.lock

    def sleep(self, delay_s: float) -> None:
        self._node.check_alive()
        self._clock.sleep(delay_s)
        self._node.check_alive()

    def start_thread(self, run: Callable[[], None], *, name: str, yields: bool = False) -> MortalThread:
        return MortalThread(self._clock.start_thread(unless_dead(run), name=name, yields=yields), self._node)

    def mailbox(self) -> Any:
        return MortalMailbox(self._clock.mailbox(), self._node)
