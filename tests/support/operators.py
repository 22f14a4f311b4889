"""Environments of an operator's commands, in memory."""

import random

from adapters.local.clock import SystemClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.config.environment import Environment
from client.config.settings import from_environ
from lifecycle.key_layout import KeyLayout
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore
from support.cluster import LAYOUT, Cluster


def environment_of(cluster: Cluster, notification_policy: NotificationPolicy | None = None) -> Environment:
    """Return an environment on the ports of *cluster*."""
    return Environment(
        settings=from_environ({}, None),
        clock=cluster.clock,
        queue=cluster.queue,
        store=cluster.memory,
        record_store=cluster.record_store,
        layout=LAYOUT,
        bucket="",
        limits=cluster.limits,
        notification_policy=notification_policy,
    )


def memory_environment(prefix: str = "", *, home: str = "", bucket: str = "") -> Environment:
    """Return an environment with a queue and a store of its own, where any key can exist, as in a bucket."""
    clock, settings = SystemClock(), from_environ({"HOLDFAST_HOME": home} if home else {}, None)
    store = MemoryStore(clock)
    return Environment(
        settings=settings,
        clock=clock,
        queue=MemoryQueue(clock),
        store=store,
        record_store=RecordStore(store, clock, random.Random(1)),
        layout=KeyLayout(prefix),
        bucket=bucket,
        limits=settings.limits(),
    )
