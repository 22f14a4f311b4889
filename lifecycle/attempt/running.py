"""What an attempt has in hand once its workload runs."""

from attrs import frozen

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import Event
from lifecycle.attempt.uploader import Uploader
from lifecycle.job_record import CheckpointRef
from lifecycle.machine import Lifecycle
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import Launch, RunningWorkload
from lifecycle.record.session import RecordSession


@frozen
class AttemptContext:
    """One attempt, its workload running.

    Attributes:
        context: The ports and the numbers.
        delivery: What woke us.
        launch: What was started, and where.
        child: The workload.
        machine: The attempt's state.
        session: Its hold on the record.
        uploader: The thread that uploads.
        events: What the other threads say.
        event_log: The attempt's log.
        resumed_from: The checkpoint that was restored.
    """

    context: WorkerContext
    delivery: Delivery
    launch: Launch
    child: RunningWorkload
    machine: Lifecycle
    session: RecordSession
    uploader: Uploader
    events: Mailbox[Event]
    event_log: EventLog
    resumed_from: CheckpointRef | None

    def now(self) -> float:
        """The monotonic clock, in seconds."""
        return self.context.clock.monotonic()
