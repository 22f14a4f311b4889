"""The ports of the simulation: in-memory adapters that report to the checker, behind connections that may fail."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from attrs import define, evolve, field
from simulation.checker import Checker
from simulation.faults import Fault
from simulation.world import Process, World, WorldClock
from support.any_port import AnyPort

from adapters.memory.queue import MemoryQueue
from adapters.memory.runner import FakeRunner, FakeWorkload
from adapters.memory.store import MemoryStore
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.ports.queue import Delivery, Message, SendFailure
from lifecycle.ports.runner import Launch, RunningWorkload
from lifecycle.ports.store import Absent, Body, Range, Version

POLL_S: Final = 4.0
TIMEOUT_S: Final = 8.0
SLOWEST_S: Final = 6.0
LONGEST_CHECK_S: Final = 5.0
UNSTOPPABLE: Final = 0.2
"""The share of freezes that fail."""
UNREADABLE: Final = (b"<html>gateway</html>", b'{"schema": 99}', b"")
"""Bodies of answers with status 200 that are not what was asked for; an empty one stands for half of the object."""


class WatchedStore(MemoryStore):
    """A bucket that reports each change to the checker."""

    def __init__(self, world: World, checker: Checker, *, gives_ages: bool) -> None:
        super().__init__(WorldClock(world), write_gap_s=1.0, gives_ages=gives_ages)
        self._world = world
        self._checker = checker

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `MemoryStore`."""
        version = super().put(key, body, expected=expected)
        self._checker.wrote(key, bytes(body))
        return version

    def delete(self, keys: Iterable[str]) -> None:
        """See `MemoryStore`."""
        for key in keys:
            super().delete([key])
            self._checker.removed(key)

    def spoil(self, key: str, what: str, pick: float) -> None:
        """Damage an object without a trace."""
        stored = self._objects[key]
        at = int(pick * 1e6) % len(stored.body)
        match what:
            case "object gone":
                super().delete([key])
            case "object cut short":
                self._objects[key] = evolve(stored, body=stored.body[:at])
            case _:
                wrong = bytes([stored.body[at] ^ 1])
                self._objects[key] = evolve(stored, body=stored.body[:at] + wrong + stored.body[at + 1 :])


class WatchedQueue(MemoryQueue):
    """A queue that delivers in any order, as SQS may."""

    def __init__(self, world: World, checker: Checker, *, fifo: bool, max_receives: int | None) -> None:
        super().__init__(WorldClock(world), fifo=fifo, max_receives=max_receives)
        self._world = world
        self._checker = checker

    def receive(self, *, hidden: timedelta, wait: timedelta) -> Delivery | None:
        """See `MemoryQueue`; polls rarely, since the timing does not matter here."""
        deadline = self._world.time + wait.total_seconds()
        while (delivery := self._take(hidden.total_seconds(), self._world.time)) is None:
            left_s = deadline - self._world.time
            if left_s <= 0:
                return None
            self._world.wait(min(POLL_S, left_s))
        return delivery

    def send(self, messages: Sequence[Message]) -> list[SendFailure]:
        """See `MemoryQueue`."""
        failures = super().send(messages)
        refused = [failure.message for failure in failures]
        self._checker.truth.sent([message for message in messages if message not in refused])
        return failures

    def delete(self, delivery: Delivery) -> None:
        """See `MemoryQueue`."""
        kept = self._find(delivery)
        super().delete(delivery)
        if kept and kept not in self._messages:
            self._checker.unqueued(kept.message.job, self.jobs())

    def jobs(self) -> list[str]:
        """Return the jobs that have messages."""
        return [kept.message.job for kept in self._messages]

    def trouble(self, what: str, pick: float) -> str | None:
        """Disturb one message as SQS may, and return its job."""
        if not self._messages:
            return None
        kept = self._messages[int(pick * len(self._messages))]
        match what:
            case "message dropped":
                self._messages.remove(kept)
            case "message doubled":
                self.send([Message(kept.message.body, kept.message.job, f"{kept.message.dedup}+")])
            case _:
                kept.visible_at = self._world.time
        return kept.message.job

    def _expire(self, now: float) -> None:
        before = list(self._messages)
        super()._expire(now)
        for kept in before:
            if kept not in self._messages:
                self._world.tell("", f"a message of {kept.message.job} is moved to the dead letters")
                self._checker.unannounced.add(kept.message.job)

    def _deliverable(self, now: float) -> list[Any]:
        found = super()._deliverable(now)
        self._world.rng.shuffle(found)
        return found


KINDS: Final = (
    ("put", "/.holdfast/records/", "record"),
    ("put", "/checkpoints/", "manifest"),
    ("put", "/log/", "log"),
    ("put", "/packs/", "pack"),
    ("put", "", "copy"),
    ("list", "/packs/", "sweep"),
    ("list", "/checkpoints/", "sweep"),
    ("list", "", "fetch"),
    ("delete", "", "remove"),
    ("get", "/checkpoints/", "restore"),
    ("get", "", "read"),
    ("get_range", "/packs/", "restore"),
    ("get_range", "", "fetch"),
)
"""Kinds of store calls: method, part of the key, kind."""


def kind_of(method: str, args: tuple[Any, ...], *, queue: bool) -> str:
    """Return the kind of a call."""
    first = args[0].key if args and isinstance(args[0], Range) else args[0] if args else ""
    key = first if isinstance(first, str) else ""
    rows = () if queue else KINDS
    return next((kind for name, part, kind in rows if name == method and part in key), method)


@define(eq=False)
class Road:
    """The connection of one process to queue and store.

    Attributes:
        world: Time and chance.
        process: The process.
        checker: Receives each fault, since a disturbed process may be taken for lost.
        mishap: Returns the fault, if any, of a call of that kind.
        crash: Kills the process.
        cut: End of the interruption, by port.
        refused_until: End of the 503 responses, by port.
        denied_until: End of the refusal of credentials.
        full_until: End of the time with a full disk.
        unreadable: Number of reads that are still answered with something else, by key.
    """

    world: World
    process: Process
    checker: Checker
    mishap: Callable[[str], Fault | None]
    crash: Callable[[], None]
    cut: dict[str, float] = field(factory=lambda: {"queue": -math.inf, "store": -math.inf})
    refused_until: dict[str, float] = field(factory=lambda: {"queue": -math.inf, "store": -math.inf})
    denied_until: float = -math.inf
    full_until: float = -math.inf
    unreadable: Counter[str] = field(factory=Counter)

    def to(self, port: Any, name: str) -> "_Port":
        """Return the process's view of a port."""
        return _Port(self, port, name)

    def call(self, name: str, method: str, real: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make one call, with the faults of the connection."""
        kind = kind_of(method, args, queue=name == "queue")
        fault = self.mishap(kind)
        what = fault.what if fault else ""
        if fault:
            self.world.tell(self.process.name, f"{kind}: {fault}")
            if "crash" not in what:
                self.checker.troubled(self.process, fault.lasts_s)
        self._meet("before", what, fault)
        self._travel()
        self._be_let(name, method)
        if fault and what == "refused":
            self.refused_until[name] = self.world.time + fault.lasts_s
        if self.world.time < self.refused_until.get(name, -math.inf):
            raise RetryableError("503, on purpose")
        if what == "carried out late" and method not in {"receive", "list", "get", "get_range"}:
            self.world.at(self.world.time + (fault.lasts_s if fault else 0.0), partial(self._late, real, args, kwargs))
            self.world.wait(TIMEOUT_S)
            raise RetryableError("no answer, on purpose: it is still on its way")
        with self.checker.acting(self.process):
            answer = real(*args, **kwargs)
            if method == "list":
                answer = list(answer)
        self._meet("after", what, fault)
        self._travel()
        answer = self._read(method, args, what, answer)
        if what == "short answer" and method == "get_range" and answer:
            answer = answer[: len(answer) // 2]
        if what == "answer lost":
            self.world.wait(TIMEOUT_S)
            raise RetryableError("no answer, on purpose")
        return iter(answer) if method == "list" else answer

    def _read(self, method: str, args: Any, what: str, answer: Any) -> Any:
        """Return *answer*, or something unreadable instead; a put whose read-back will be unreadable raises."""
        key = str(args[0]) if args else ""
        if what == "answer unreadable" and method == "put":
            # Two wrong reads of what never changes are taken for damage.
            self.unreadable[key] += self.world.rng.choice((1, 1, 2)) if "/records/" in key else 1
            self.world.wait(TIMEOUT_S)
            raise RetryableError("no answer, on purpose")
        if method != "get" or answer is None or not (what == "answer unreadable" or self.unreadable[key]):
            return answer
        self.unreadable[key] = max(self.unreadable[key] - 1, 0)
        body = self.world.rng.choice(UNREADABLE) or answer.body[: len(answer.body) // 2]
        return evolve(answer, body=body)

    def _meet(self, when: str, what: str, fault: Fault | None) -> None:
        if what == f"crash {when}":
            self.crash()
            self.world.wait(0.0)
        elif what == f"hang {when}" and fault:
            self.process.asleep_until = self.world.time + fault.lasts_s
            self.world.wait(0.0)

    def _travel(self) -> None:
        rng = self.world.rng
        self.world.wait(rng.uniform(0.5, SLOWEST_S) if rng.random() < 0.02 else rng.uniform(0.001, 0.1))

    def heal(self) -> None:
        """End all faults now."""
        now = self.world.time
        self.process.asleep_until = min(self.process.asleep_until, now)
        self.cut, self.refused_until = dict.fromkeys(self.cut, now), dict.fromkeys(self.refused_until, now)
        self.denied_until = self.full_until = now
        self.unreadable.clear()

    def _be_let(self, name: str, method: str) -> None:
        if self.world.time < self.cut.get(name, -math.inf):
            self.world.wait(TIMEOUT_S)
            raise RetryableError(f"no way to the {name}, on purpose")
        if self.world.time < self.denied_until and name != "notifier":  # the notifier has no credentials
            raise ConfigError(f"{name}.{method}: access denied, on purpose")

    def _late(self, real: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Carry out a call that was delayed in the network, even if its sender has died."""
        with self.checker.acting(self.process):
            try:
                real(*args, **kwargs)
                self.world.tell(self.process.name, "a late call was carried out")
            except Exception as error:  # noqa: BLE001 - the answer is lost
                self.world.tell(self.process.name, f"a late call came to nothing: {type(error).__name__}")


class _Port(AnyPort):
    def __init__(self, road: Road, port: Any, name: str) -> None:
        self._road = road
        self._port = port
        self._name = name

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._port, method)
        road, name, truth = self._road, self._name, self._road.checker.truth

        def call(*args: Any, **kwargs: Any) -> Any:
            return truth.watch.call(
                road.process, name, method, args, lambda: road.call(name, method, real, args, kwargs)
            )

        return call


class WatchedWorkload(FakeWorkload):
    """A fake workload that cannot always be frozen, and whose worker may hang while it is.

    Args:
        road: The connection of the worker's process.
        made: What a fake workload is made of.
    """

    def __init__(self, road: Road, *made: Any) -> None:
        super().__init__(*made)
        self._road = road

    def freeze(self) -> str | None:
        """See `RunningWorkload.freeze`."""
        world = self._road.world
        if world.rng.random() < UNSTOPPABLE:
            return "a process waits in the kernel"
        why = super().freeze()
        world.wait(world.rng.choice((0.0, 0.0, 0.3, 7.0)))  # longer than the limit: then it runs on
        self.poll()
        return why


class WatchedRunner(FakeRunner):
    """Runs fake workloads, and knows the step of each."""

    def __init__(self, clock: WorldClock, road: Road, *, script: Callable[[Launch, int], int | None]) -> None:
        super().__init__(clock, script=script)
        self.workload = partial(WatchedWorkload, road)
        self._road = road
        self.running: dict[str, FakeWorkload] = {}

    def start(self, launch: Launch) -> RunningWorkload:
        """See `FakeRunner`."""
        workload = super().start(launch)
        assert isinstance(workload, FakeWorkload)
        self.running[launch.job] = workload
        self._road.checker.started(launch.job, launch.epoch, workload._step)
        self._road.checker.workloads[launch.job, launch.epoch] = workload
        self._road.checker.truth.started(self._road.process, launch.job, launch.epoch, workload)
        return workload

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        """See `FakeRunner`; takes time, in which a silent workload may overwrite its files."""
        if launch.params.get("silent"):
            self._road.world.wait(self._road.world.rng.choice((0.0, 1.0, LONGEST_CHECK_S)))
        return super().check(launch, snapshot)
