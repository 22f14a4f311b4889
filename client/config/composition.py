"""The composition root: which adapters stand behind the ports, by what the settings say."""

import random

from attrs import field, frozen

from adapters.local.clock import SystemClock
from adapters.retry_listeners import RetryListeners
from adapters.signing_queue import SigningQueue
from client.config.settings import Settings
from client.config.webhook_settings import notification_policy
from lifecycle.key_layout import KeyLayout
from lifecycle.limits import Limits
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.store import ObjectStore
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore


@frozen
class Environment:
    """Where jobs are queued and stored, ready to use.

    Attributes:
        settings: What it was made from.
        clock: This process's time.
        queue: The queue, retrying.
        store: The bucket, retrying.
        record_store: The records in it.
        layout: Where the jobs lie.
        bucket: The bucket's name; empty for the embedded default.
        limits: The numbers.
        retries: Tells of every call that is made again.
        notification_policy: Who is told of changes of state; None is nobody.
    """

    settings: Settings
    clock: Clock
    queue: JobQueue
    store: ObjectStore
    record_store: RecordStore
    layout: KeyLayout
    bucket: str
    limits: Limits
    retries: RetryListeners = field(factory=RetryListeners)
    notification_policy: NotificationPolicy | None = None


def open_environment(settings: Settings) -> Environment:
    """Put the adapters together. The cloud's are imported only if they are used.

    Raises:
        ConfigError: The settings cannot be used.
    """
    clock = SystemClock()
    retries = RetryListeners()
    queue, store = _cloud(settings, clock, retries) if settings.is_cloud else _local(settings, clock)
    bucket, signer = settings["BUCKET"] if settings.is_cloud else "", settings.signer()
    if signer.is_enabled:
        queue = SigningQueue(queue, signer, bucket=bucket, prefix=settings["PREFIX"])
    return Environment(
        settings=settings,
        clock=clock,
        queue=queue,
        store=store,
        record_store=RecordStore(store, clock, random.SystemRandom()),
        layout=KeyLayout(settings["PREFIX"]),
        bucket=bucket,
        limits=settings.limits(),
        retries=retries,
        notification_policy=notification_policy(settings, clock),
    )


def _local(settings: Settings, clock: Clock) -> tuple[JobQueue, ObjectStore]:
    from adapters.local.queue import LocalQueue
    from adapters.local.store import LocalStore

    return LocalQueue(settings.home / "queue.sqlite3", clock), LocalStore(settings.home / "bucket", clock)


def _cloud(settings: Settings, clock: Clock, retries: RetryListeners) -> tuple[JobQueue, ObjectStore]:
    from adapters.aws import queue as sqs
    from adapters.aws import store as r2
    from adapters.retrying import RetryingQueue, RetryingStore
    from client.config.credential_sources import queue_keys, store_keys

    queue = sqs.connect(
        url=settings["QUEUE_URL"],
        credentials=queue_keys(settings, clock),
        clock=clock,
    )
    store = r2.connect(
        endpoint=settings["CLOUDFLARE_URL"],
        region=settings["CLOUDFLARE_REGION"],
        credentials=store_keys(settings, clock),
        bucket=settings["BUCKET"],
        clock=clock,
    )
    return RetryingQueue(queue, clock, retries), RetryingStore(store, clock, retries)
