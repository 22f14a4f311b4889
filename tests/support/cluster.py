"""A cluster in memory: one queue, one bucket, any number of workers, virtual time."""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import define, evolve, field

from adapters.local.node import LocalNode
from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.runner import ExitScript, FakeRunner
from adapters.memory.store import MemoryStore
from adapters.process.workloads_file import load
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.observers import Observers
from lifecycle.attempt.worker import Worker
from lifecycle.checkpoint.manifest import Manifest
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys, KeyLayout
from lifecycle.limits import Limits
from lifecycle.ports.clock import Clock
from lifecycle.ports.node import Node
from lifecycle.ports.observer import Observer
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.runner import Launch
from lifecycle.ports.store import ABSENT, ObjectStore
from lifecycle.record.message import announce
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore, StoredRecord
from lifecycle.record.signing import UNSIGNED, Signer
from support.fault_injection import unless_dead

LIMITS = Limits(
    lease=timedelta(seconds=120),
    heartbeat=timedelta(seconds=30),
    state_saving_interval=timedelta(seconds=60),
    idle_exit=timedelta(minutes=10),
    fail_patience=timedelta(0),
)
LAYOUT = KeyLayout("runs")


class Checking(FakeRunner):
    """A fake runner whose workloads' check returns *says*."""

    def __init__(self, clock: Clock, *, step_s: float, script: ExitScript | None, says: str | None) -> None:
        super().__init__(clock, step_s=step_s, script=script)
        self._says = says

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        assert list(snapshot.glob("*/state.txt"))
        return self._says


@define
class Cluster:
    """A test's queue, bucket, clock and workers."""

    root: Path
    clock: ManualClock = field(factory=ManualClock)
    rng: random.Random = field(factory=lambda: random.Random(7))
    limits: Limits = LIMITS
    store: ObjectStore = field(init=False)
    memory: MemoryStore = field(init=False)
    queue: MemoryQueue = field(init=False)
    names: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.memory = MemoryStore(self.clock, write_gap_s=1.0)
        self.store = self.memory
        self.queue = MemoryQueue(self.clock)

    @property
    def record_store(self) -> RecordStore:
        return RecordStore(self.memory, self.clock, self.rng)

    def submit(
        self, job: str, text: str | None = "1\n300\n", *, workload: str = "series-sum", **params: object
    ) -> JobKeys:
        keys = LAYOUT.job(job)
        if text is not None:
            self.memory.put(f"{keys.input}input.txt", text.encode())
        record = JobRecord(job, workload, params, dispatch=1)
        self.record_store.write(keys.record, record, ABSENT)
        self.queue.send([announce(record, 1, bucket="", prefix=LAYOUT.prefix)])
        return keys

    def worker(
        self,
        *,
        script: ExitScript | None = None,
        store: ObjectStore | None = None,
        queue: JobQueue | None = None,
        clock: Clock | None = None,
        max_jobs: int = 0,
        step_s: float = 1.0,
        check: str | None = None,
        workload: Mapping[str, Any] = MappingProxyType({}),
        observers: Iterable[Observer] = (),
        signer: Signer = UNSIGNED,
        notification_policy: NotificationPolicy | None = None,
        open_bucket: Callable[[str], ObjectStore] | None = None,
        node: Node | None = None,
        image: str = "",
        offers: Collection[str] | None = None,
        **limits: Any,
    ) -> Worker:
        self.names += 1
        used = store or self.store
        clock = clock or self.clock
        return Worker(
            WorkerContext(
                queue=queue or self.queue,
                store=used,
                record_store=RecordStore(used, clock, self.rng),
                runner=Checking(clock, step_s=step_s, script=script, says=check),
                node=node or LocalNode(f"node{self.names}"),
                clock=clock,
                rng=self.rng,
                limits=evolve(self.limits, max_jobs=max_jobs, **limits),
                workloads={
                    name: evolve(each, **workload)
                    for name, each in load(None).items()
                    if offers is None or name in offers
                },
                image=image,
                layout=LAYOUT,
                bucket="",
                work_dir=self.root / f"node{self.names}",
                alive=lambda: None,
                observer=Observers(*observers),
                signer=signer,
                notification_policy=notification_policy,
                open_bucket=open_bucket,
            )
        )

    def stored(self, job: str) -> StoredRecord:
        found = self.record_store.read(LAYOUT.job(job).record)
        assert found is not None
        return found

    def manifest(self, job: str) -> Manifest:
        """Return the manifest of a job's last checkpoint."""
        checkpoint = self.record(job).checkpoint
        assert checkpoint is not None
        return fetch_manifest(self.memory, checkpoint)

    def record(self, job: str) -> JobRecord:
        return self.stored(job).record

    def keys_of(self, job: str) -> Iterable[str]:
        return [listed.key for listed in self.memory.list(LAYOUT.job(job).folder)]

    def output(self, job: str) -> str | None:
        stored = self.memory.get(f"{LAYOUT.job(job).output}output.txt")
        return stored.body.decode().strip() if stored else None


@contextmanager
def running_worker(cluster: Cluster, worker: Worker) -> Iterator[None]:
    """Run *worker* during the block, and drain it afterwards."""
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    yield
    worker.drain()
    assert thread.join(1000)
