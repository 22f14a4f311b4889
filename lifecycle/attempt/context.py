"""The worker's ports and limits, put together once, in `client.config.composition`."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from lifecycle.attempt.observers import NO_OBSERVERS
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
        queue: Source of job messages.
        store: The bucket.
        record_store: The job records in it.
        runner: Runs workloads.
        node: The machine that the worker runs on.
        clock: Time and threads.
        rng: Source of jitter and identities.
        limits: Timeouts, intervals and retry limits.
        workloads: The workloads that this image offers, by name.
        layout: The keys of this worker's jobs.
        bucket: Name of the bucket; empty for the embedded default.
        open_bucket: Opens the bucket that a message of the SaladCloud demo names, and checks that it can be used; None:
            the worker has a bucket of its own, and serves no other.
        work_dir: A directory of this process alone.
        image: Name of this node's image, or a digest of what it offers: nodes with the same one lack the same things.
        alive: Called at least once a heartbeat, for a health check.
        sizes: Sizes of chunks and packs.
        observer: Hears what happens.
        signer: Verifies and signs messages.
        notification_policy: Which changes of state are notified, and through what; None if notifications are off.
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
    image: str = ""
    chunk_sizes: ChunkSizes = DEFAULT_CHUNK_SIZES
    observer: Observer = NO_OBSERVERS
    signer: Signer = UNSIGNED
    notification_policy: NotificationPolicy | None = None
    open_bucket: Callable[[str], ObjectStore] | None = None
