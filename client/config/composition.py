"""The composition root: which adapters stand behind the ports, by what the settings say."""

import random

from attrs import field, frozen

from adapters.local.clock import SystemClock
from adapters.retry_listeners import Retries
from adapters.signing_queue import SigningQueue
from client.config.settings import Settings
from client.config.webhook_settings import telling
from lifecycle.key_layout import Place
from lifecycle.limits import Policy
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.store import ObjectStore
from lifecycle.record.notifications import Telling
from lifecycle.record.record_store import Ledger


@frozen
class Site:
    """Where jobs are queued and stored, ready to use.

    Attributes:
        settings: What it was made from.
        clock: This process's time.
        queue: The queue, retrying.
        store: The bucket, retrying.
        ledger: The records in it.
        place: Where the jobs lie.
        bucket: The bucket's name; empty for the embedded default.
        policy: The numbers.
        retries: Tells of every call that is made again.
        telling: Who is told of changes of state; None is nobody.
    """

    settings: Settings
    clock: Clock
    queue: JobQueue
    store: ObjectStore
    ledger: Ledger
    place: Place
    bucket: str
    policy: Policy
    retries: Retries = field(factory=Retries)
    telling: Telling | None = None


def open_site(settings: Settings) -> Site:
    """Put the adapters together. The cloud's are imported only if they are used.

    Raises:
        ConfigError: The settings cannot be used.
    """
    clock = SystemClock()
    retries = Retries()
    queue, store = _cloud(settings, clock, retries) if settings.is_cloud else _local(settings, clock)
    bucket, signer = settings["BUCKET"] if settings.is_cloud else "", settings.signer()
    if signer.is_on:
        queue = SigningQueue(queue, signer, bucket=bucket, prefix=settings["PREFIX"])
    return Site(
        settings=settings,
        clock=clock,
        queue=queue,
        store=store,
        ledger=Ledger(store, clock, random.SystemRandom()),
        place=Place(settings["PREFIX"]),
        bucket=bucket,
        policy=settings.policy(),
        retries=retries,
        telling=telling(settings, clock),
    )


def _local(settings: Settings, clock: Clock) -> tuple[JobQueue, ObjectStore]:
    from adapters.local.queue import LocalQueue
    from adapters.local.store import LocalStore

    return LocalQueue(settings.home / "queue.sqlite3", clock), LocalStore(settings.home / "bucket", clock)


def _cloud(settings: Settings, clock: Clock, retries: Retries) -> tuple[JobQueue, ObjectStore]:
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
