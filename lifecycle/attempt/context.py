"""What an attempt works with: the ports and the numbers, put together once, in client/bootstrap.py."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from lifecycle.attempt.observers import NOBODY
from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES, ChunkSizes
from lifecycle.key_layout import KeyLayout
from lifecycle.limits import Limits
from lifecycle.ports.clock import Clock
from lifecycle.ports.node import Node
from lifecycle.ports.observer import Observer
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.runner import Workload, WorkloadRunner
from lifecycle.ports.store import ObjectStore
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore
from lifecycle.record.signing import UNSIGNED, Signer


@frozen
class WorkerContext:
    """Everything a worker needs of the world.

    Attributes:
        queue: Wakes us up.
        store: The bucket.
        record_store: The records in it.
        runner: Runs workloads.
        node: Who we are.
        clock: Time and threads.
        rng: Jitter.
        limits: The numbers.
        workloads: What this image offers, by name.
        layout: Where this worker's jobs lie.
        bucket: The bucket's name, empty for the embedded default.
        work_dir: A directory of this process alone.
        sizes: How checkpoints are cut.
        observer: Is told what happens.
        signer: Whose signature a message must have.
        notification_policy: Who is told of changes of state; None is nobody.
        alive: Called at least every heartbeat, for a health check.
    """

    queue: JobQueue
    store: ObjectStore
    record_store: RecordStore
    runner: WorkloadRunner
    node: Node
    clock: Clock
    rng: random.Random
    limits: Limits
    workloads: Mapping[str, Workload]
    layout: KeyLayout
    bucket: str
    work_dir: Path
    alive: Callable[[], None]
    chunk_sizes: ChunkSizes = DEFAULT_CHUNK_SIZES
    observer: Observer = NOBODY
    signer: Signer = UNSIGNED
    notification_policy: NotificationPolicy | None = None
