"""The effects of an attempt's transitions: one method for each effect that the table names."""

from typing import Final

from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.outcome import Outcome
from lifecycle.attempt.phases import ClaimedJob, RunningJob
from lifecycle.job_record import JobRecord
from lifecycle.machine import Event, Lifecycle, edge_of, effect, entering
from lifecycle.record.message import JobMessage
from lifecycle.record.notifications import NotificationRecorder
from lifecycle.record.record_store import StoredRecord
from lifecycle.record.session import RecordSession
from lifecycle.states import Recording, State, Trigger

JOIN_S: Final = 10.0  # for a thread in the middle of a call; a longer one ends with the process


class AttemptEffects(Lifecycle):
    """The state of one attempt, the writing of its transitions, and their effects.

    Args:
        context: The worker's ports and limits.
        message: The message that announced the job.
        stored: The job's record as read; None if there is none yet.
        acknowledgement: Settles the delivery.

    Attributes:
        session: The attempt's hold on the record, from the transition `take` on.
        claimed: The job, once its threads run.
        running: The job, once its workload runs.
    """

    session: RecordSession

    def __init__(
        self,
        context: WorkerContext,
        message: JobMessage,
        stored: StoredRecord | None,
        acknowledgement: Acknowledgement,
    ) -> None:
        super().__init__(stored.record.state if stored else State.QUEUED)
        self.claimed: ClaimedJob | None = None
        self.running: RunningJob | None = None
        self._context = context
        self._message = message
        self._stored = stored
        self._acknowledgement = acknowledgement
        self._notifications = NotificationRecorder(
            context.notification_policy, message.keys, node=context.node.name, clock=context.clock
        )

    def record_transition(self, event: Event) -> None:
        """Write the transition to the record at once, or with the next heartbeat, or never, as its row says."""
        edge = edge_of(event)
        outcome: Outcome | None = event.kwargs.get("outcome")
        enter = entering(edge, event.kwargs["change"])
        notify = self._notifications.of(
            edge, cause=outcome.cause if outcome else None, error=outcome.error if outcome else None
        )

        def change(record: JobRecord) -> JobRecord:
            return notify(enter(record))

        if edge.trigger is Trigger.TAKE:
            self.session = RecordSession.claim(
                self._context.record_store,
                self._context.clock,
                key=self._message.keys.record,
                record=change(self._stored.record if self._stored else self._message.new_record()),
                expected=self._stored,
                write_gap=self._context.limits.write_gap,
                observer=self._context.observer,
            )
        elif edge.recorded is Recording.AT_ONCE:
            self.session.write(change)
        elif edge.recorded is Recording.NEXT_BEAT:
            self.session.note(edge.trigger, change)

    def on_entered(self, event: Event) -> None:
        """Tell the observers."""
        self._notifications.entered()
        self._context.observer.entered(edge_of(event), self.session.record)

    # ---- effects, in the order of `lifecycle.states.Effect` ----

    @effect
    def kill_workload(self, event: Event) -> None:  # noqa: ARG002 - all effects have one signature
        """End the workload and everything that it started."""
        if self.running:
            self.running.child.kill()

    @effect
    def queue_snapshot(self, event: Event) -> None:
        """Give the snapshot to the uploader, in place of one that still waits."""
        if self.running:
            self.running.uploader.submit(event.kwargs["snapshot"])

    @effect
    def discard_snapshot(self, event: Event) -> None:
        """Remove the snapshot from the node's disk."""
        event.kwargs["snapshot"].discard()

    @effect
    def collect_garbage(self, event: Event) -> None:
        """Let the uploader remove what no kept manifest names, now that its last upload is committed."""
        outcome: Outcome | None = event.kwargs.get("outcome")
        if self.running and (outcome is None or outcome.commits_last):
            self.running.uploader.committed()

    @effect
    def stop_heartbeat(self, event: Event) -> None:  # noqa: ARG002
        """End the heartbeat, which would hide the message again."""
        if self.claimed:
            self.claimed.heartbeat.stop(timeout_s=JOIN_S)

    @effect
    def send_continuation(self, event: Event) -> None:  # noqa: ARG002
        """Send the message under which the job goes on."""
        self._acknowledgement.send_continuation(self.session.record)

    @effect
    def release_message(self, event: Event) -> None:
        """Let other workers see the message, after the delay that the outcome names."""
        self._acknowledgement.release(event.kwargs["outcome"].delay)

    @effect
    def publish_outputs(self, event: Event) -> None:  # noqa: ARG002
        """Publish the outputs. The heartbeat goes on: publishing may take long, and the delivery should stay ours."""
        self._acknowledgement.publish(self.session.record, self.session.write)

    @effect
    def delete_message(self, event: Event) -> None:  # noqa: ARG002
        """Delete the message, or release it if something that had to come first has failed."""
        self._acknowledgement.delete()

    @effect
    def stop_uploads(self, event: Event) -> None:  # noqa: ARG002
        """Break off the upload: no manifest will name its objects."""
        if self.running:
            self.running.uploader.stop(timeout_s=0.0)

    @effect
    def stop_notifications(self, event: Event) -> None:  # noqa: ARG002
        """Deliver no more notices: the other attempt does."""
        if self.claimed and self.claimed.webhook_dispatcher:
            self.claimed.webhook_dispatcher.stop()
