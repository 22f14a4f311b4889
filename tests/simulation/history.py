"""One history: a few jobs and workers, the faults of one seed, and a quiet time in which all jobs must end well."""

import errno
import hashlib
import json
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from unittest.mock import patch

from attrs import define, evolve, field, frozen
from simulation.checker import (
    FOREIGN,
    LAYOUT,
    LIVENESS,
    NOTHING_BREAKS,
    Checker,
    Planned,
    Violation,
)
from simulation.faults import ANY, FAULTY_S, MISHAPS, Fault, draw, draw_for_operators, draw_for_receiver
from simulation.final_state import FinalState
from simulation.notifier import WatchedNotifier
from simulation.operators import ARCHIVE, RECONCILE, Inline, Operators
from simulation.ports import Road, WatchedQueue, WatchedRunner, WatchedStore
from simulation.troubles import Troubles
from simulation.truth import Truth
from simulation.world import Process, World, WorldClock

from adapters.local.node import LocalNode
from adapters.process.workloads_file import load
from adapters.retrying import RetryingQueue, RetryingStore
from adapters.webhook import RetryingNotifier
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.input_files import _write
from lifecycle.attempt.observers import Observers
from lifecycle.attempt.worker import Worker
from lifecycle.checkpoint.chunks import ChunkSizes
from lifecycle.checkpoint.restore_target import RestoreTarget
from lifecycle.errors import ConfigError
from lifecycle.job_record import JobRecord
from lifecycle.limits import Limits
from lifecycle.ports.queue import Message
from lifecycle.ports.runner import Launch
from lifecycle.ports.store import ABSENT
from lifecycle.record.message import announce
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore
from lifecycle.states import Edge, Trigger

LIMITS: Final = Limits(
    lease=timedelta(seconds=20),
    heartbeat=timedelta(seconds=5),
    max_running_time=timedelta(seconds=60),
    state_saving_interval=timedelta(seconds=10),
    stop_grace=timedelta(seconds=10),
    max_failures=3,
    fail_patience=timedelta(seconds=60),
    misfit_patience=timedelta(seconds=1800),
    max_lost_attempts=6,
    patience=timedelta(seconds=120),
)
SIZES: Final = ChunkSizes(
    small_bytes=32, large_bytes=128, large_from_bytes=4096, read_bytes=256, frame_bytes=256, pack_bytes=512
)
"""A thousand times smaller than in production, so that checkpoints have many chunks and several packs."""
WORKLOADS: Final = {
    name: evolve(each, growing=("output/*.log",), quiet=timedelta(seconds=2)) for name, each in load(None).items()
}
PICTURE_S: Final = 11.0
"""Extra seconds for a snapshot without announcement: a save in progress, the quiet time, a check."""
FREEZE_S: Final = 30.0
"""Extra seconds for a snapshot of a program that has to be frozen: several tries, and hangs of the worker."""
WORKERS: Final = 3
FIFO: Final = 0.3
"""The share of FIFO queues."""
MAX_RECEIVES: Final = (None, None, None, None, 6)
"""Number of deliveries after which a message is moved to the dead-letter queue."""
INVALID: Final = 0.06
"""The share of jobs with invalid input."""
ALWAYS_FAILING: Final = 0.06
"""The share of jobs with a workload that always fails."""
FAILING_LATE: Final = 0.06
"""The share of jobs with a workload that always fails at the same step, after some checkpoints."""
FITTING_NOWHERE: Final = 0.04
"""The share of jobs whose workload no image has."""
MISFIT: Final = 0.15
"""The share of nodes whose image has no workload, while there are faults."""
USELESS: Final = 0.10
"""The share of jobs with a checkpoint that has the right bytes and from which the workload fails to resume."""
HEALED_S: Final = 4 * 3600.0
"""Seconds after the last fault within which all jobs must end."""
RECONCILE_EVERY_S: Final = 300.0
ARCHIVING_S: Final = 90.0
"""Seconds in which a run of archive ends, even one that loses answers."""
SETTLE_S: Final = 180.0
"""Seconds for the last messages to be deleted once all jobs are over."""


@frozen
class JobKind:
    """The kind of jobs in a history.

    Attributes:
        webhooks: Changes of state are reported.
        whole_jobs: Jobs come as messages only, and the first worker creates the record.
        silent: The workloads do not announce checkpoints.
        mapped: Nor do they rest: they write through memory, so that they have to be frozen.
        clockless: The store gives no ages.
        foreign: Number of messages for another prefix in the queue.
        archives: All jobs are archived at the end, "alone" or "beside a retry"; empty if they are not.
    """

    webhooks: bool
    whole_jobs: bool
    silent: bool
    mapped: bool = False
    clockless: bool = False
    foreign: int = 0
    archives: str = ""

    @classmethod
    def of(cls, rng: random.Random) -> "JobKind":
        """Draw a kind; each trait has a share of the histories."""
        webhooks, whole_jobs, silence = rng.random() < 0.4, rng.random() < 0.4, rng.random()
        return cls(
            webhooks=webhooks,
            whole_jobs=whole_jobs,
            silent=silence < 0.3,
            mapped=silence < 0.12,
            clockless=rng.random() < 0.15,
            foreign=rng.choice((0, 0, 0, 0, 1, 2)),
            archives=rng.choice(("", "", "", "alone", "beside a retry")),
        )


@frozen
class HistoryResult:
    """The result of a history.

    Attributes:
        seed: Its seed.
        faults: Its faults.
        violation: The broken invariant with details; None if all held.
        invariant: The broken invariant's name.
        history: All events: time, actor, text.
        counts: Number of faults that struck, by kind.
        events: Number of events.
        calls: Number of port calls.
    """

    seed: int
    faults: tuple[Fault, ...]
    violation: str | None
    invariant: str | None
    history: tuple[tuple[float, str, str], ...]
    counts: Counter[str]
    events: int
    calls: int

    @property
    def digest(self) -> str:
        """Hash of the events."""
        return hashlib.sha256(repr(self.history).encode()).hexdigest()

    def timeline(self) -> str:
        """Return the history as text."""
        lines = [f"seed {self.seed}: {self.violation or 'all invariants stored'}"]
        lines += [f"  fault: {fault}" for fault in self.faults]
        lines += [f"  {moment:9.3f}  {who:<9} {what}" for moment, who, what in self.history]
        return "\n".join(lines)


class Watching(Observers):
    """Tells the checker when an attempt takes itself for superseded."""

    def __init__(self, checker: Checker) -> None:
        super().__init__()
        self._checker = checker

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer`."""
        if edge.trigger is Trigger.SUPERSEDE:
            self._checker.superseded(record)


@define(eq=False)
class SimulatedNode:
    """A worker's process with its disk, connections and runner."""

    process: Process
    disk: Path
    road: Road
    runner: WatchedRunner
    worker: Worker
    fits: bool


@define(eq=False)
class History:
    """See `play`."""

    seed: int
    faults: tuple[Fault, ...]
    root: Path
    steps: int | None
    workers: int
    kind: JobKind
    limits: Limits = LIMITS
    world: World = field(init=False)
    checker: Checker = field(init=False)
    store: WatchedStore = field(init=False)
    queue: WatchedQueue = field(init=False)
    notifier: WatchedNotifier = field(init=False)
    troubles: Troubles = field(init=False)
    operators: Operators = field(init=False)
    whole: dict[str, str] = field(factory=dict)
    nodes: list[SimulatedNode] = field(factory=list)
    calls: Counter[str] = field(factory=Counter)
    counts: Counter[str] = field(factory=Counter)
    fails_at: dict[str, int] = field(factory=dict)
    useless: dict[str, int | None] = field(factory=dict)
    began: dict[tuple[str, int], int] = field(factory=dict)
    lives: int = 0
    healed: bool = False

    def __attrs_post_init__(self) -> None:
        self.world = World(self.seed)
        rng = self.world.rng
        self.checker = Checker(
            self.world,
            planned={},
            max_failures=self.limits.max_failures,
            max_lost_attempts=self.limits.max_lost_attempts,
        )
        self.notifier = self.checker.notifier = WatchedNotifier(self.world, self.checker, is_on=self.kind.webhooks)
        self.store = self.checker.store = WatchedStore(self.world, self.checker, gives_ages=not self.kind.clockless)
        self.queue = WatchedQueue(
            self.world, self.checker, fifo=rng.random() < FIFO, max_receives=rng.choice(MAX_RECEIVES)
        )
        self.checker.truth = Truth(self.world, self.checker, self.limits)
        self.troubles, self.operators = Troubles(self), Operators(self)

    def play(self) -> HistoryResult:
        """Play the history, and return its result."""
        violation = None
        try:
            self._submit()
            self.checker.truth.expects_takes = len(self.checker.planned) == 1 and not self.kind.clockless
            for fault in self.faults:
                if fault.what not in MISHAPS:
                    self.world.at(fault.at, partial(self.troubles.bring, fault))
            for _ in range(self.workers):
                self._start()
            self.world.run(FAULTY_S)
            self._heal()
            self.world.run(FAULTY_S + HEALED_S, enough=self._all_over)
            self._expect_all_over()
            self.world.run(self.world.time + SETTLE_S)
            self._archive()
            FinalState(self).look()
        except Violation as caught:
            violation = caught
        except Exception as error:  # noqa: BLE001 - any error that a worker should not raise
            violation = self.checker.broken(NOTHING_BREAKS, "".join(traceback.format_exception(error)))
        finally:
            self.world.end()
        return HistoryResult(
            self.seed,
            self.faults,
            str(violation) if violation else None,
            violation.invariant if violation else None,
            tuple(self.world.history),
            self.counts,
            events=len(self.world.history),
            calls=self.calls[ANY],
        )

    # ---- jobs and workers ----

    def _submit(self) -> None:
        for number in range(self.kind.foreign):
            other = JobRecord(f"{FOREIGN}{number}", "series-sum")
            self.queue.send([announce(other, 1, bucket="", prefix="another")])
        rng = self.world.rng
        record_store = RecordStore(self.store, WorldClock(self.world), rng)
        ages = not self.kind.clockless  # without them, each write hides how long a job has waited
        for number in range(rng.choice((1, 1, 2, 3)) if self.steps is None else 1):
            job = f"job{number}"
            steps = self.steps or rng.choice((3, 30, 80, 150))
            text, planned, interval_s = f"1\n{steps}\n", Planned(steps * (steps + 1) // 2), 10
            workload = "series-sum"
            if self.steps is None:
                fate, interval_s = rng.random(), rng.choice((10, 10, 40))
                if fate < INVALID:
                    text, planned = "nonsense", Planned(None, "input.txt")
                elif fate < INVALID + ALWAYS_FAILING:
                    planned, self.fails_at[job] = Planned(None, "times in a row"), 2
                elif fate < INVALID + ALWAYS_FAILING + FAILING_LATE:
                    planned, self.fails_at[job] = Planned(None, "times in a row"), max(2, 2 * steps // 3)
                elif fate < INVALID + ALWAYS_FAILING + FAILING_LATE + USELESS:
                    self.useless[job] = None
                elif fate < INVALID + ALWAYS_FAILING + FAILING_LATE + USELESS + FITTING_NOWHERE and ages:
                    workload, planned = "unheard-of", Planned(None, "no node could run it")
            self.checker.planned[job] = planned
            self.checker.interval_s[job] = interval_s + (
                (2 * PICTURE_S if self.kind.silent else 0) + (interval_s + FREEZE_S if self.kind.mapped else 0)
            )  # the first snapshot is torn, or waits for a quiet moment
            keys, params = (
                LAYOUT.job(job),
                {
                    "STATE_SAVING_INTERVAL": interval_s,
                    "silent": self.kind.silent,
                    "mapped": self.kind.mapped,
                },
            )
            self.store.put(f"{keys.input}input.txt", text.encode())
            if self.kind.whole_jobs:
                self.whole[job] = json.dumps({"job": job, "workload": workload, "params": params})
                self.queue.send([Message(self.whole[job], job, job)])
            else:
                record = JobRecord(job, workload, params, dispatch=1)
                record_store.write(keys.record, record, ABSENT)
                self.queue.send([announce(record, 1, bucket="", prefix=LAYOUT.prefix)])

    def _start(self, disk: Path | None = None) -> None:
        """Start a worker on a new node, or on one whose disk is kept."""
        self.lives += 1
        rng = self.world.rng
        process = Process(f"node{self.lives}", skew_s=rng.choice((0.0, 0.0, rng.uniform(-7200, 7200))))
        road = Road(self.world, process, self.checker, mishap=self._mishap, crash=lambda: self.crash(node))
        clock = WorldClock(self.world, process)
        runner = WatchedRunner(clock, road, script=self._script)
        store, queue = (
            RetryingStore(road.to(self.store, "store"), clock),
            RetryingQueue(road.to(self.queue, "queue"), clock),
        )
        random_of_its_own = random.Random(rng.getrandbits(32))
        fits = self.healed or self.steps is not None or random_of_its_own.random() >= MISFIT
        worker = Worker(
            WorkerContext(
                queue=queue,
                store=store,
                record_store=RecordStore(store, clock, random_of_its_own),
                runner=runner,
                node=LocalNode(process.name),
                clock=clock,
                rng=random_of_its_own,
                limits=self.limits,
                workloads=WORKLOADS if fits else {},
                image="whole" if fits else "bare",
                chunk_sizes=SIZES,
                layout=LAYOUT,
                bucket="",
                work_dir=disk or self.root / process.name,
                alive=lambda: None,
                observer=Watching(self.checker),
                notification_policy=NotificationPolicy(RetryingNotifier(road.to(self.notifier, "notifier"), clock))
                if self.kind.webhooks
                else None,
            )
        )
        node = SimulatedNode(process, disk or self.root / process.name, road, runner, worker, fits)
        self.nodes.append(node)
        self.world.tell(process.name, f"starts{' on a disk that was kept' if disk else ''}")
        self.world.spawn(process, lambda: self._work(node), name="worker")

    def _work(self, node: SimulatedNode) -> None:
        """Run the worker's main thread, and replace the node when it ends."""
        try:
            code = node.worker.run()
            self.world.tell(node.process.name, f"leaves with exit code {code}")
        except ConfigError as error:
            self.world.tell(node.process.name, f"leaves with exit code 78: {error}")
        node.process.is_dead = True
        self.checker.dead.add(node.process.name)
        self._replace(node)

    def _replace(self, node: SimulatedNode) -> None:
        """Start another worker some time later, perhaps on the same disk."""
        self.nodes.remove(node)
        rng = self.world.rng
        disk = node.disk if rng.random() < 0.5 else None
        self.world.at(self.world.time + rng.uniform(1, 30), lambda: self._start(disk))

    def _script(self, launch: Launch, step: int) -> int | None:
        return 1 if step >= self.fails_at.get(launch.job, step + 1) or self._resumes_in_vain(launch) else None

    def _resumes_in_vain(self, launch: Launch) -> bool:
        """Return whether the workload fails to resume: the first checkpoint that such a job resumes from is useless."""
        ref = self.checker.records[launch.job].checkpoint
        if launch.job not in self.useless or not launch.resumed or ref is None:
            return False
        began = self.began.setdefault((launch.job, launch.epoch), ref.seq)
        if self.useless[launch.job] is None:
            self.useless[launch.job] = began
        return self.useless[launch.job] == began

    # ---- faults ----

    def _mishap(self, kind: str) -> Fault | None:
        self.calls[kind] += 1
        self.calls[ANY] += 1
        if self.healed:
            return None
        for fault in self.faults:
            if fault.call in {kind, ANY} and fault.nth == self.calls[fault.call]:
                self.counts[fault.what] += 1
                return fault
        return None

    def mishap_of_operator(self, command: str, _kind: str) -> Fault | None:
        """Return the fault, if any, of an operator's next call; these are counted by command."""
        self.calls[command] += 1
        for fault in self.faults:
            if fault.call == command and fault.nth == self.calls[command]:
                self.counts[f"{fault.what} of an operator"] += 1
                return fault
        return None

    def if_there_is_room(self, write: Callable[..., None]) -> Callable[..., None]:
        """Wrap *write* so that it fails while its node's disk is full."""

        def write_if_it_can(*args: object) -> None:
            full = [
                node
                for node in self.nodes
                if node.process is self.world.process and node.road.full_until > self.world.time
            ]
            if full:
                raise OSError(errno.ENOSPC, "no space left, on purpose")
            write(*args)

        return write_if_it_can

    def crash(self, node: SimulatedNode) -> None:
        """Kill the process of *node*, and keep its disk as it is."""
        if node.process.is_dead:
            return
        self.world.tell(node.process.name, "dies")
        running = {job: work._step for job, work in node.runner.running.items() if work.poll().exited is None}
        self.checker.crashed(node.process, running)
        node.process.is_dead = True
        kept = node.disk.with_name(f"{node.disk.name}+")
        if node.disk.exists():
            node.disk.rename(kept)
        node.disk = kept
        self._replace(node)

    # ---- the end ----

    def _heal(self) -> None:
        self.world.tell("", "all faults stop")
        self.healed = True
        self.checker.truth.healed_at = self.world.time
        self.notifier.down_until = min(self.notifier.down_until, self.world.time)
        for node in self.nodes:
            node.road.heal()
            self.checker.troubled(node.process)
            if not node.fits:
                node.worker.drain()  # an operator replaces its image
        for number in range(1, int(HEALED_S / RECONCILE_EVERY_S)):
            self.world.at(self.world.time + number * RECONCILE_EVERY_S, self._reconcile_if_needed)

    def _archive(self) -> None:
        """Archive all jobs, and repeat that: the first run may die, or find an operator at work."""
        if not self.kind.archives:
            return
        for again in (False, True):
            self.operators.run(ARCHIVE, older=timedelta(0))
            if not again and self.kind.archives == "beside a retry":
                self.world.at(
                    self.world.time + self.world.rng.uniform(0, 1), partial(self.operators.run, "retry", "job0")
                )
            self.world.run(self.world.time + ARCHIVING_S)
            self.world.run(self.world.time + HEALED_S, enough=self._all_over)
            self._expect_all_over()
            self.world.run(self.world.time + SETTLE_S)

    def _reconcile_if_needed(self) -> None:
        if not self._all_over():
            self._send_unheard_of()
            self.operators.run(RECONCILE)

    def _send_unheard_of(self) -> None:
        """Send lost messages of jobs without a record again, as their sender would."""
        for job in self.whole.keys() - self.checker.records.keys():
            self.world.tell("", f"{job} is sent again")
            self.queue.send([Message(self.whole[job], job, f"{job} at {self.world.time}")])

    def _expect_all_over(self) -> None:
        if not self._all_over():
            states = {job: str(record.state) for job, record in self.checker.records.items()}
            raise self.checker.broken(LIVENESS, f"four hours after the last fault: {states}")

    def _all_over(self) -> bool:
        records = self.checker.records
        return records.keys() == self.checker.planned.keys() and all(
            record.is_settled and not record.outbox.notices for record in records.values()
        )


def _fail(_: str, error: Exception) -> None:
    raise error


def play(
    seed: int,
    root: Path,
    faults: tuple[Fault, ...] | None = None,
    *,
    steps: int | None = None,
    workers: int = WORKERS,
    kind: JobKind | None = None,
) -> HistoryResult:
    """Play the history of *seed*.

    Args:
        seed: Decides everything that no other argument sets.
        root: Directory for the nodes' disks, which are removed.
        faults: Faults in place of the seed's.
        steps: Steps of a single job in place of the seed's jobs.
        workers: Number of workers at the start.
        kind: Kind in place of the seed's.
    """
    rng = random.Random(f"kind {seed}")  # separate, so that faults and jobs do not depend on the kind
    drawn_kind = JobKind.of(rng)
    kind = kind or drawn_kind
    drawn = draw(random.Random(seed)) if faults is None else faults
    if faults is None and kind.webhooks:
        drawn += draw_for_receiver(rng)
    if faults is None:
        drawn += draw_for_operators(random.Random(f"operators {seed}"))
    random.seed(seed)  # tenacity draws its pauses from there
    directory = root / f"seed{seed}"
    directory.mkdir(parents=True)
    try:
        history = History(seed, drawn, directory, steps, workers, kind)
        with (
            patch.object(RestoreTarget, "receive", history.if_there_is_room(RestoreTarget.receive)),
            patch("lifecycle.attempt.input_files._write", history.if_there_is_room(_write)),
            patch("client.records.reader.ThreadPoolExecutor", Inline),
            patch("client.operations.reconciliation.ThreadPoolExecutor", Inline),
            patch("client.operations.notices.ThreadPoolExecutor", Inline),
            patch("lifecycle.attempt.defects.log_defect", _fail),  # a worker survives it, and a history must not
            patch("client.operations.archiving.ThreadPoolExecutor", Inline),
            patch("client.operations.archiving.SystemRandom", lambda: history.world.rng),
        ):
            return history.play()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
