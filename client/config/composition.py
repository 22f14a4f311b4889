"""The composition root: the one place that chooses the adapters behind the ports, by the settings.

Adapters of the cloud, and all that only a worker needs, are imported when they are used.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from attrs import evolve

from adapters.local.clock import SystemClock
from adapters.retry_listeners import RetryListeners
from adapters.signing_queue import SigningQueue
from client.config.environment import Environment
from client.config.no_bucket import NoBucket
from client.config.settings import NAMES, Settings
from client.config.settings_checks import check_bucket
from client.config.variables import CONFIG
from client.config.webhook_setup import notification_policy
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.runner import Workload
from lifecycle.ports.store import ObjectStore
from lifecycle.record.record_store import RecordStore

if TYPE_CHECKING:
    from adapters.aws.admin import BucketAdmin, QueueAdmin
    from lifecycle.attempt.worker import Worker

__all__ = ["Environment", "build_worker", "open_admins", "open_environment"]


def open_environment(settings: Settings, *, needs_bucket: bool = True) -> Environment:
    """Build an operator's environment. Sends nothing.

    Args:
        settings: The settings.
        needs_bucket: BUCKET must be set. Only a worker can do without it, for messages that name theirs.

    Raises:
        ConfigError: A setting is invalid.
    """
    if needs_bucket:
        check_bucket(settings)
    clock = SystemClock()
    retries = RetryListeners()
    queue, store = _cloud(settings, clock, retries) if settings.is_cloud else _local(settings, clock)
    bucket, signer = settings.bucket if settings.is_cloud else "", settings.signer()
    if signer.is_enabled:
        queue = SigningQueue(queue, signer, bucket=bucket, prefix=settings.prefix)
    return Environment(
        settings=settings,
        clock=clock,
        queue=queue,
        store=store,
        record_store=RecordStore(store, clock, random.SystemRandom()),
        layout=KeyLayout(settings.prefix),
        bucket=bucket,
        limits=settings.limits(),
        retries=retries,
        notification_policy=notification_policy(settings, clock),
    )


HOME: Final = ".holdfast"  # the default of HOLDFAST_HOME, which is ours alone


def _local(settings: Settings, clock: Clock) -> tuple[JobQueue, ObjectStore]:
    from adapters.local.private_files import make_private
    from adapters.local.queue import LocalQueue
    from adapters.local.store import LocalStore

    if settings.home.name == HOME:  # another folder may be shared with other programs
        make_private(settings.home)

    return LocalQueue(settings.home / "queue.sqlite3", clock), LocalStore(settings.home / "bucket", clock)


def _cloud(settings: Settings, clock: Clock, retries: RetryListeners) -> tuple[JobQueue, ObjectStore]:
    from adapters.aws import queue as sqs
    from adapters.retrying import RetryingQueue
    from client.config.credential_sources import queue_credentials

    queue = sqs.connect(
        url=settings.queue_url,
        credentials=queue_credentials(settings, clock),
        clock=clock,
        region=settings.host.aws_region,
    )
    store = open_store(settings, settings.bucket, clock, retries) if settings.bucket else NoBucket()
    return RetryingQueue(queue, clock, retries), store


def open_store(settings: Settings, bucket: str, clock: Clock, retries: RetryListeners) -> ObjectStore:
    """Build the store of *bucket*, with the keys of the settings. Sends nothing.

    Raises:
        ConfigError: A setting, or the bucket's name, is invalid.
    """
    from adapters.aws import store as r2
    from adapters.retrying import RetryingStore
    from client.config.credential_sources import store_credentials

    store = r2.connect(
        endpoint=settings.store_url,
        region=settings.store_region,
        credentials=store_credentials(settings, clock),
        bucket=bucket,
        clock=clock,
        certificates=settings.host.ca_bundle,
        listeners=retries,
    )
    return RetryingStore(store, clock, retries)


def open_admins(settings: Settings) -> "tuple[QueueAdmin, BucketAdmin]":
    """Build the administrative clients of the queue and the bucket, for `setup` and `doctor`. Sends nothing.

    Raises:
        ConfigError: A setting is invalid.
    """
    from adapters.aws.admin import bucket_admin, queue_admin
    from client.config.credential_sources import queue_credentials, store_credentials

    clock = SystemClock()
    check_bucket(settings)
    queues = queue_admin(
        url=settings.queue_url,
        credentials=queue_credentials(settings, clock),
        clock=clock,
        region=settings.host.aws_region,
    )
    bucket = bucket_admin(
        endpoint=settings.store_url,
        region=settings.store_region,
        bucket=settings.bucket,
        credentials=store_credentials(settings, clock),
        clock=clock,
    )
    return queues, bucket


@contextmanager
def build_worker(
    env: Environment,
    workloads: Mapping[str, Workload],
    *,
    idle_exit: timedelta | None = None,
    max_jobs: int | None = None,
) -> "Iterator[Worker]":
    """Build a worker after checking that it can work; its directory and telemetry last as long as the context.

    Args:
        env: The environment of its jobs.
        workloads: The programs that it can run, by name.
        idle_exit: Overrides IDLE_EXIT, unless None.
        max_jobs: Exit after this many attempts; None: unlimited.

    Raises:
        ConfigError: A setting, a credential, the queue or the bucket is wrong; no job was taken.
    """
    from adapters.local.node import this_node
    from adapters.process.runner import ProcessRunner
    from adapters.process.workloads_file import offer_digest
    from adapters.retrier import Retrier
    from client.config.telemetry_setup import set_up_telemetry
    from client.config.trace_setup import tracing
    from client.config.worker_files import ALIVE, own_directory, touch
    from lifecycle.attempt.context import WorkerContext
    from lifecycle.attempt.observers import Observers
    from lifecycle.attempt.worker import Worker

    settings = env.settings
    node = this_node(
        kind=settings.node_kind,
        salad_machine_id=settings.host.salad_machine_id,
        retry=Retrier("node", env.clock, env.retries),
    )
    observers = set_up_telemetry(env, node)
    limits = evolve(
        env.limits,
        idle_exit=env.limits.idle_exit if idle_exit is None else idle_exit,
        max_jobs=max_jobs or env.limits.max_jobs,
    )
    check_services(env)
    with tracing(env, node) as traces, own_directory(settings.work_dir, node.name) as directory:
        yield Worker(
            WorkerContext(
                queue=env.queue,
                store=env.store,
                record_store=env.record_store,
                runner=ProcessRunner(environment=settings.host.everything, settings=(*NAMES, CONFIG)),
                node=node,
                clock=env.clock,
                rng=random.SystemRandom(),
                limits=limits,
                workloads=workloads,
                layout=env.layout,
                bucket=env.bucket,
                image=settings.node_image or offer_digest(workloads),
                work_dir=directory,
                notification_policy=env.notification_policy,
                alive=lambda: touch(settings.work_dir / ALIVE),
                observer=Observers(*observers, traces),
                signer=settings.signer(),
                open_bucket=partial(open_bucket, env) if settings.is_cloud and not env.bucket else None,
            )
        )


def check_services(env: Environment) -> None:
    """Reach the queue, and check that the bucket honours conditional writes.

    Raises:
        ConfigError: One of them is wrong.
        RetryableError: One of them cannot be reached.
    """
    from lifecycle.record.preflight import check_conditional_writes

    env.queue.depth()
    if env.bucket or not env.settings.is_cloud:
        check_conditional_writes(env.store, prefix=env.layout.preflight, token=uuid4().hex, clock=env.clock)


def open_bucket(env: Environment, bucket: str) -> ObjectStore:
    """Open a bucket that a message names, and check that it honours conditional writes.

    Raises:
        ConfigError: It does not, or the keys do not allow to use it.
        RetryableError: It cannot be reached.
    """
    from lifecycle.record.preflight import check_conditional_writes

    store = open_store(env.settings, bucket, env.clock, env.retries)
    check_conditional_writes(store, prefix=env.layout.preflight, token=uuid4().hex, clock=env.clock)
    return store
