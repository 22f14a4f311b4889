"""A watch over the processes: what they run, which calls they wait for, and what the answers told them."""

import hashlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import define, field, frozen
from simulation.checker import LAYOUT, RECORDS, Checker
from simulation.world import Process, World

from lifecycle.job_record import JobRecord
from lifecycle.limits import Limits
from lifecycle.states import OWNED

if TYPE_CHECKING:
    from adapters.memory.runner import FakeWorkload

T = TypeVar("T")

DEAD_SOON: Final = "a superseded workload is dead soon"
BEATS: Final = "a heartbeat is due every interval"
OWN_TAKE: Final = "a worker knows its own take"

KILL_S: Final = 10.0
"""Seconds in which a workload is killed once its worker was told, besides the calls that its worker is waiting for."""
LATE_BEAT_S: Final = 8.0
"""Seconds between two heartbeats besides the interval and the calls: gaps between writes, pauses between retries."""
CRASHED: Final = 1
"""The code with which a workload of the simulation fails."""
LOOK_AGAIN_S: Final = 1.0
BEATING: Final = "beating"
"""The calls of a heartbeat, and all that write the record: the lease waits for their answers."""
LEADING: Final = "leading"
"""The calls of the thread that runs the attempt."""


@frozen
class Told:
    """One version of a record, by which a worker learns that its attempt is over."""

    epoch: int
    owner: str | None
    cancel: bool


@define(eq=False)
class Run:
    """One run of a workload.

    Attributes:
        process: Where it runs.
        job: Its job.
        epoch: Its attempt.
        workload: The workload.
        began: When it started.
        first_step: The step at which it started.
        must_end: Why it must be dead soon; None if it may run on.
    """

    process: Process
    job: str
    epoch: int
    workload: "FakeWorkload"
    began: float
    first_step: int
    must_end: str | None = None

    @property
    def is_alive(self) -> bool:
        """True while the workload runs."""
        return not self.process.is_dead and self.workload._exited is None

    @property
    def has_crashed(self) -> bool:
        """True if it failed by itself."""
        return self.workload._exited is not None and self.workload._exited.code == CRASHED


@define(eq=False)
class Watch:
    """Watches over all processes of a history.

    Attributes:
        world: Time.
        checker: Holds the records, and reports violations.
        limits: The workers' limits.
        runs: The newest run of each process and job.
    """

    world: World
    checker: Checker
    limits: Limits
    runs: dict[tuple[str, str], Run] = field(factory=dict)
    _asked_at: dict[str, float] = field(factory=dict)
    _versions: dict[str, Told] = field(factory=dict)
    _busy: Counter[tuple[str, str]] = field(factory=Counter)
    _quiet_since: dict[tuple[str, str], float] = field(factory=dict)
    _writing: set[tuple[str, str]] = field(factory=set)
    _knows: set[tuple[str, str]] = field(factory=set)
    _has_beaten: set[tuple[str, str]] = field(factory=set)

    def wrote(self, body: bytes, record: JobRecord) -> None:
        """Remember a version of a record, by which its readers learn of it."""
        self._versions[_version_of(body)] = Told(record.epoch, record.owner, record.control.cancel)

    def run_of(self, job: str, epoch: int) -> Run | None:
        """Return the run of an attempt; None if its workload never started."""
        return next((run for run in self.runs.values() if run.job == job and run.epoch == epoch), None)

    def has_idle_worker(self, since: float) -> bool:
        """Return whether a worker without any trouble has been there since then, in a history with one job."""
        there = (name for name, asked_at in self._asked_at.items() if asked_at <= since)
        return any(not self.checker.is_troubled(name) for name in there)

    def started(self, process: Process, job: str, epoch: int, workload: "FakeWorkload") -> None:
        """Note that a workload starts, and watch over it."""
        run = self.runs[process.name, job] = Run(process, job, epoch, workload, self.world.time, workload._step)
        self._watch_beats(run)

    def _watch_beats(self, run: Run) -> None:
        self.world.at(self.world.time + self.limits.heartbeat.total_seconds(), partial(self._expect_beat, run))

    def _expect_beat(self, run: Run) -> None:
        if not run.is_alive or run.must_end:
            return
        quiet_s = self._quiet_s(run, BEATING)
        if quiet_s > self.limits.heartbeat.total_seconds() + LATE_BEAT_S:
            raise self.checker.broken(BEATS, f"{run.process.name} runs {run.job}, and was silent for {quiet_s:.1f} s")
        self._watch_beats(run)

    def _end_soon(self, run: Run, why: str, within_s: float) -> None:
        if run.must_end is None and run.is_alive:
            run.must_end = why
            self.world.at(self.world.time + within_s, partial(self._expect_end, run, within_s))

    def _expect_end(self, run: Run, within_s: float) -> None:
        if not run.is_alive:
            return
        quiet_s = self._quiet_s(run, LEADING)
        if quiet_s >= within_s:
            text = f"{run.process.name} runs {run.job} on in epoch {run.epoch}: {run.must_end}"
            raise self.checker.broken(DEAD_SOON, text)
        again_s = within_s - quiet_s if quiet_s else LOOK_AGAIN_S
        self.world.at(max(self.world.time + again_s, run.process.wakes_at), partial(self._expect_end, run, within_s))

    def _quiet_s(self, run: Run, what: str) -> float:
        """Return for how long the worker of *run* could have acted: it was awake, and waited for no answer."""
        name, now = run.process.name, self.world.time
        if self._busy[name, what] or self._busy[name, BEATING] or run.process.wakes_at > now:
            return 0.0
        return now - max(self._quiet_since.get((name, what), 0.0), run.process.wakes_at, run.began)

    def call(self, process: Process, port: str, method: str, args: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Make one call of *process*, and note what it tells its caller."""
        task, key = self.world.task, str(args[0]) if args else ""
        on_record = method in {"get", "put"} and port == "store" and key.startswith(RECORDS)
        beating = task.startswith("heartbeat-")
        marks = [(process.name, BEATING)] if on_record or beating else []
        marks += [(process.name, LEADING)] if task == "worker" else []
        own = (process.name, LAYOUT.job_of_record(key)) if on_record else (process.name, "")
        if on_record and method == "put":
            self._writing.add(own)
            self._has_beaten.add(own)
        elif method == "extend" and beating:
            self._expect_written(process, task.removeprefix("heartbeat-"))
        elif method == "receive":
            self._expect_nothing_forgotten(process)
            self._asked_at.setdefault(process.name, self.world.time)
        self._busy.update(marks)
        heard = None
        try:
            answer = make()
            heard = self._heard(own, method, answer) if on_record else None
            if method == "extend":
                self._has_beaten.discard((process.name, task.removeprefix("heartbeat-")))
        finally:
            if on_record and heard is None:
                self._knows.discard(own)
            for mark in marks:
                self._busy[mark] -= 1
                self._quiet_since[mark] = self.world.time
        return answer

    def _heard(self, own: tuple[str, str], method: str, answer: Any) -> bool | None:
        """Take in an answer about a record; return None if it tells nothing."""
        name, _ = own
        run = self.runs.get(own)
        if method == "get" and answer is None:
            if run:
                self._end_soon(run, "the record is gone", KILL_S)
            return True
        version = answer if method == "put" else _version_of(answer.body)
        told = self._versions.get(str(version).strip('"'))
        if told is None:
            return None
        if own in self._writing and told.owner == name:
            self._knows.add(own)
        if run and told.epoch > run.epoch:
            self._end_soon(run, f"it was told of epoch {told.epoch}", KILL_S)
        elif run and told.cancel and told.epoch == run.epoch:
            self._end_soon(run, "it was told to cancel", KILL_S + self.limits.stop_grace.total_seconds())
        return True

    def _expect_written(self, process: Process, job: str) -> None:
        """Check that a heartbeat writes the record before it extends the delivery."""
        run = self.runs.get((process.name, job))
        own = (process.name, job)
        if run and run.is_alive and own not in self._has_beaten and not run.must_end:
            raise self.checker.broken(
                BEATS, f"{process.name} extends the delivery of {job}, and has not renewed its lease"
            )

    def _expect_nothing_forgotten(self, process: Process) -> None:
        """Check that a worker that asks for another message has ended each attempt that it knew to be its own."""
        for own in [own for own in self._writing if own[0] == process.name]:
            record = self.checker.records.get(own[1])
            if own in self._knows and record and record.owner == process.name and record.state in OWNED:
                raise self.checker.broken(
                    OWN_TAKE, f"{process.name} owns {record.job}, was told so, and asks for another"
                )
            self._writing.discard(own)
            self._knows.discard(own)


def _version_of(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()  # noqa: S324 - an ETag, not a signature
