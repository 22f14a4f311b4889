"""The phases of an attempt, each a value handed on to the next: claimed, staged, running, finished."""

from typing import TYPE_CHECKING

from attrs import frozen

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import Event
from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.attempt.log_shipper import LogShipper
from lifecycle.attempt.outcome import AttemptTotals, Outcome
from lifecycle.attempt.salad_demo import DemoFiles
from lifecycle.attempt.uploader import Uploader
from lifecycle.attempt.webhook_dispatcher import WebhookDispatcher
from lifecycle.checkpoint.restore import RestoredCheckpoint
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.queue import Delivery
from lifecycle.ports.runner import JobDirs, Launch, RunningWorkload
from lifecycle.record.session import RecordSession

if TYPE_CHECKING:
    from lifecycle.attempt.effects import AttemptEffects


@frozen
class ClaimedJob:
    """A job whose lease this attempt holds, with the threads that keep it.

    Attributes:
        context: The worker's ports and limits.
        delivery: The delivery that announced the job.
        keys: The job's keys in the bucket.
        dirs: Its directories on this node.
        machine: The attempt's state.
        session: Its hold on the record.
        token: The attempt token, which no other attempt has: part of every key that it writes.
        claimed_at: Time of the claim, by the monotonic clock, in seconds.
        events: What the attempt's threads announce.
        event_log: The attempt event log.
        heartbeat: Renews the lease.
        log_shipper: Ships logs.
        webhook_dispatcher: Delivers notices; None if notifications are off.
        demo: The Salad demo's files; None for any other job.
    """

    context: WorkerContext
    delivery: Delivery
    keys: JobKeys
    dirs: JobDirs
    machine: "AttemptEffects"
    session: RecordSession
    token: str
    claimed_at: float
    events: Mailbox[Event]
    event_log: EventLog
    heartbeat: Heartbeat
    log_shipper: LogShipper
    webhook_dispatcher: WebhookDispatcher | None
    demo: DemoFiles | None

    def now(self) -> float:
        """Return the monotonic clock, in seconds."""
        return self.context.clock.monotonic()


@frozen
class StagedJob:
    """A job that is ready to start.

    Attributes:
        launch: What to start, and where.
        restored: The checkpoint that was restored; None if there was none.
    """

    launch: Launch
    restored: RestoredCheckpoint | None


@frozen
class RunningJob:
    """A job whose workload runs.

    Attributes:
        claimed: The claim that it runs under.
        staged: What was started.
        child: The workload.
        uploader: The thread that uploads snapshots.
    """

    claimed: ClaimedJob
    staged: StagedJob
    child: RunningWorkload
    uploader: Uploader


@frozen
class FinishedJob:
    """An attempt that is over, but for recording it.

    Attributes:
        outcome: How it ended.
        totals: What it did.
        leave_by: Deadline of a draining worker, by the monotonic clock; None if it is not draining.
    """

    outcome: Outcome
    totals: AttemptTotals
    leave_by: float | None = None
