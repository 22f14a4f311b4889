"""What an attempt has in hand once its workload runs."""

from attrs import frozen

from lifecycle.attempt.context import Services
from lifecycle.attempt.event_log import Journal
from lifecycle.attempt.events import Event
from lifecycle.attempt.uploader import Uploader
from lifecycle.job_record import CheckpointRef
from lifecycle.machine import Lifecycle
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import Launch, RunningWorkload
from lifecycle.record.session import RecordKeeper


@frozen
class Running:
    """One attempt, its workload running.

    Attributes:
        services: The ports and the numbers.
        delivery: What woke us.
        launch: What was started, and where.
        child: The workload.
        machine: The attempt's state.
        keeper: Its hold on the record.
        uploader: The thread that uploads.
        events: What the other threads say.
        journal: The attempt's log.
        resumed_from: The checkpoint that was restored.
    """

    services: Services
    delivery: Delivery
    launch: Launch
    child: RunningWorkload
    machine: Lifecycle
    keeper: RecordKeeper
    uploader: Uploader
    events: Mailbox[Event]
    journal: Journal
    resumed_from: CheckpointRef | None

    def now(self) -> float:
        """The monotonic clock, in seconds."""
        return self.services.clock.monotonic()
