"""The job record: the one mutable object of a job, and the only authority on it.

It is a frozen value; a change evolves a copy, which the record store writes. In the bucket it is JSON
(UTF-8, at most MAX_BYTES); fields that this version does not know are kept as they are.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import evolve, field, frozen

from lifecycle.outbox import EMPTY, Outbox
from lifecycle.states import FINAL, OWNED, State

KEPT_ATTEMPTS: Final = 50


@frozen
class CheckpointRef:
    """A committed manifest.

    Attributes:
        manifest: Its key.
        digest: Its hash, `blake3:<hex>`.
        seq: Rises with every snapshot of the job, over all epochs.
        step: How far the workload was, if it said.
        bytes: Size of the files it names, in bytes.
        sent: What was uploaded for it, in bytes.
        at: When it was committed, ISO 8601 UTC, by the node's clock.
    """

    manifest: str
    digest: str
    seq: int
    step: int | None = None
    bytes: int = 0
    sent: int = 0
    at: str | None = None


@frozen
class Progress:
    """Steps done, steps in all, steps a second; None where the workload does not say."""

    done: int | None = None
    total: int | None = None
    rate: float | None = None


@frozen
class Backlog:
    """What is on the node and not yet committed.

    Attributes:
        bytes: Size of the newest snapshot's files, in bytes.
        since: When the oldest snapshot since the last commit was taken, ISO 8601 UTC, by the node's clock.
    """

    bytes: int
    since: str


@frozen
class AttemptSummary:
    """One node's run at the job.

    Attributes:
        epoch: Its number.
        node: Its node's name.
        kind: What kind of machine that is, as NODE_KIND says; empty if nobody said.
        started: ISO 8601 UTC, by that node's clock.
        ended: The same; None while it runs, and for ever if it vanished.
        outcome: The state or cause it ended with; `vanished` once somebody took over.
        resumed_step: The step of the checkpoint that it went on from; None if it started from the input.
        prepared_s: Seconds from taking the lease to the workload's start: input loaded, checkpoint restored.
        useful_s: Seconds that its workload ran.
        steps: Steps done by it.
        commits: Checkpoints committed by it that went further than the one before.
    """

    epoch: int
    node: str
    started: str
    kind: str = ""
    ended: str | None = None
    outcome: str | None = None
    resumed_step: int | None = None
    prepared_s: float = 0.0
    useful_s: float = 0.0
    steps: int = 0
    commits: int = 0


@frozen
class Result:
    """What a completed job gave.

    Attributes:
        manifest: The manifest of its outputs.
        files: How many.
        bytes: Their size, in bytes.
        published: Whether they lie under `output/` yet.
        problem: Why they never will: something committed is missing from the bucket, or the store refuses a name.
    """

    manifest: CheckpointRef
    files: int
    bytes: int
    published: bool = False
    problem: str | None = None


@frozen
class Control:
    """What operators ask of the owner. Written by the client, read by whoever owns the job."""

    cancel: bool = False


@frozen
class Timestamps:
    """ISO 8601 UTC, by the clock of whoever wrote it: for people, never for decisions."""

    submitted: str | None = None
    started: str | None = None
    updated: str | None = None
    finished: str | None = None


@frozen
class JobRecord:
    """The whole truth about a job.

    Attributes:
        job: Its id.
        workload: What runs.
        params: The workload's parameters (JSON values).
        state: Where it stands; never SUPERSEDED.
        epoch: The number of the newest attempt, 0 before the first: the fencing token.
        owner: The node whose attempt that is, until the attempt ends.
        lease_s: How long the owner's lease lasts after each write.
        beat: Rises with every heartbeat.
        write_id: Fresh in every write, so that a writer knows its own.
        dispatch: The highest number of a message that is known to have been sent.
        checkpoint: The last committed checkpoint.
        fallback: The one before, used if that is damaged.
        progress: As of the last beat.
        backlog: What is saved on the node and not in the bucket; None if nothing is.
        ran_s: Seconds that the workload ran in all attempts that have ended.
        failures: Attempts in a row that reported a failure without a new checkpoint.
        deaths: Attempts in a row that vanished without a new checkpoint.
        interruptions: How often attempts ended early, by cause; never counted against the job.
        attempts: The newest KEPT_ATTEMPTS, oldest first.
        result: What it gave, once completed.
        error: Why it failed, in a line, then the end of stderr if there is any.
        control: What operators ask.
        labels: What whoever submitted it calls it by; for finding it, and nothing else.
        demo: Whether it came as a message of the demo that Holdfast grows from, whose file names are then kept too.
        archived: The archive's segment that it was put into. From then on nobody changes it, and it will be removed.
        timestamps: For people.
        outbox: Changes of state that are still to be told; in the JSON only if there ever was one.
        unknown: Fields of the JSON that this version does not know; written back as they were.
    """

    job: str
    workload: str
    params: Mapping[str, Any] = field(factory=dict)
    state: State = State.QUEUED
    epoch: int = 0
    owner: str | None = None
    lease_s: float = 0.0
    beat: int = 0
    write_id: str = ""
    dispatch: int = 0
    checkpoint: CheckpointRef | None = None
    fallback: CheckpointRef | None = None
    progress: Progress = Progress()
    backlog: Backlog | None = None
    ran_s: float = 0.0
    failures: int = 0
    deaths: int = 0
    interruptions: Mapping[str, int] = field(factory=dict)
    attempts: tuple[AttemptSummary, ...] = ()
    result: Result | None = None
    error: str | None = None
    control: Control = Control()
    labels: Mapping[str, str] = field(factory=dict)
    demo: bool = False
    archived: str | None = None
    timestamps: Timestamps = Timestamps()
    outbox: Outbox = EMPTY
    unknown: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        """Whether the job is over."""
        return self.state in FINAL

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for it: final, and its outputs published if it has any that can be."""
        return self.is_final and (self.result is None or self.result.published or bool(self.result.problem))

    def is_owned(self, age_s: float) -> bool:
        """Whether a lease is fresh, the record being *age_s* seconds old by the store's clock.

        Ages are whole seconds from two truncated times, so one second is granted to the owner.
        """
        return self.state in OWNED and age_s <= self.lease_s + 1.0

    def with_attempt(self, **changes: Any) -> "JobRecord":
        """A copy whose newest attempt has *changes*."""
        *before, newest = self.attempts
        return evolve(self, attempts=(*before, evolve(newest, **changes)))

    def with_interruption(self, cause: str) -> "JobRecord":
        """A copy with one more interruption by *cause*."""
        counts = {**self.interruptions, cause: self.interruptions.get(cause, 0) + 1}
        return evolve(self, interruptions=counts)


def iso(moment: datetime) -> str:
    """*moment* as the record has it: ISO 8601, UTC, whole milliseconds."""
    return moment.isoformat(timespec="milliseconds")
