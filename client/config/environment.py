"""The objects that every command works with."""

from attrs import field, frozen

from adapters.retry_listeners import RetryListeners
from client.config.settings import Settings
from lifecycle.key_layout import KeyLayout
from lifecycle.limits import Limits
from lifecycle.ports.clock import Clock
from lifecycle.ports.queue import JobQueue
from lifecycle.ports.store import ObjectStore
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore


@frozen
class Environment:
    """A queue and a store of jobs, ready to use.

    Attributes:
        settings: The settings that it was made from.
        clock: The clock of this process.
        queue: The queue; retries calls.
        store: The bucket; retries calls.
        record_store: The job records in the bucket.
        layout: The names of objects in the bucket.
        bucket: The bucket's name; empty for local files.
        limits: Timeouts, intervals and retry limits.
        retries: Notified of each call that is retried.
        notification_policy: The webhook and the states that it is notified of; None if there is none.
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

    @property
    def place(self) -> str:
        """The queue and the bucket, or the folder, that this environment works on, for people."""
        under = f", prefix {self.layout.prefix}" if self.layout.prefix else ""
        if not self.settings.is_cloud:
            return f"local files in {self.settings.home}{under}"
        return f"queue {self.settings.queue_url}, bucket {self.bucket} at {self.settings.store_url}{under}"
