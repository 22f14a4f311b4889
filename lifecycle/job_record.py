"""The job record: the one mutable object of a job, and the only authority on it.

It is a frozen value. A change evolves a copy, which `lifecycle.record` writes to the bucket.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import evolve, field, frozen

from lifecycle.evidence import NO_FAILURES, NO_MARK, NO_MISFITS, FailedOn, HighWaterMark, Misfits
from lifecycle.outbox import EMPTY, Outbox
from lifecycle.states import FINAL, OWNED, State

KEPT_ATTEMPTS: Final = 50
SCHEMA: Final = 2
"""Version of a record whose checkpoints may have manifests of schema 3."""
OLDEST_SCHEMA: Final = 1
LONGEST_LEASE_S: Final = 43_200.0  # the longest time for which SQS hides a message
LEASE_SLACK_S: Final = 1.0  # ages are differences of whole seconds


@frozen
class CheckpointRef:
    """Reference to a committed manifest.

    Attributes:
        manifest: Key of the manifest.
        digest: Digest of the manifest, `blake3:<hex>`.
        seq: Number of the snapshot; increases over all attempts of the job.
        step: Number of steps done when it was captured; None if the workload did not say.
        bytes: Total size of the files, in bytes.
        sent: Bytes that were uploaded for it.
        at: Time of the commit, ISO 8601 UTC, by the node's clock.
        quality: How its files were captured, a `lifecycle.checkpoint.manifest.Quality`; None if unknown.
        computed_s: Computing time that it preserves, counted from the input, in seconds; None if it was committed by a
            version that did not say.
    """

    manifest: str
    digest: str
    seq: int
    step: int | None = None
    bytes: int = 0
    sent: int = 0
    at: str | None = None
    computed_s: float | None = None
    quality: str | None = None


@frozen
class Progress:
    """Progress of a job, as far as the workload reports it.

    Attributes:
        done: Number of steps done.
        total: Number of steps in all.
        rate: Steps per second.
    """

    done: int | None = None
    total: int | None = None
    rate: float | None = None


@frozen
class Backlog:
    """State that was captured on the node and is not committed yet.

    Attributes:
        bytes: Size of the newest snapshot's files, in bytes.
        since: Time of the oldest snapshot since the last commit, ISO 8601 UTC, by the node's clock.
    """

    bytes: int
    since: str


@frozen
class Saving:
    """Why a job's work is not saved as it should be.

    Attributes:
        problem: What is wrong, and what to do about it: one line.
        since: Since when nothing has been saved, ISO 8601 UTC, by the node's clock; None if checkpoints are made
            nevertheless.
    """

    problem: str
    since: str | None = None


@frozen
class AttemptSummary:
    """Summary of one attempt.

    Attributes:
        epoch: Number of the attempt.
        node: Name of its node.
        kind: Kind of machine (NODE_KIND); empty if not configured.
        started: Time when it took the lease, ISO 8601 UTC, by its node's clock.
        ended: Time of its end, likewise; None while it runs, and forever if its node was lost.
        outcome: State or cause with which it ended; `vanished` if another attempt found it lost.
        machine: Name of its machine, which several nodes (worker processes) may share; empty if an older version ran.
        resumed_step: Step of the checkpoint that it resumed from; None if it started from the input.
        resumed_from: Number of that checkpoint, likewise.
        resumed_s: Computing time that this checkpoint preserves, counted from the input, in seconds: 0 if the attempt
            started from the input; None if unknown.
        prepared_s: Seconds from taking the lease until the workload started, with the input loaded and the checkpoint
            restored.
        useful_s: Seconds during which its workload ran.
        steps: Number of steps that it did.
        commits: Number of checkpoints it committed that went further than any before.
    """

    epoch: int
    node: str
    started: str
    kind: str = ""
    machine: str = ""
    ended: str | None = None
    outcome: str | None = None
    resumed_step: int | None = None
    resumed_from: int | None = None
    resumed_s: float | None = None
    prepared_s: float = 0.0
    useful_s: float = 0.0
    steps: int = 0
    commits: int = 0


@frozen
class Result:
    """Result of a completed job.

    Attributes:
        manifest: Manifest of its outputs.
        files: Number of output files.
        bytes: Their total size, in bytes.
        published: Whether they have been published under `output/`.
        problem: Why they can never be published: a committed object is missing, or the store refuses a key.
    """

    manifest: CheckpointRef
    files: int
    bytes: int
    published: bool = False
    problem: str | None = None


@frozen
class Control:
    """Requests of operators to the owner. Written by the client, read by the owner.

    Attributes:
        cancel: Whether the job is to be cancelled.
    """

    cancel: bool = False


@frozen
class Timestamps:
    """Times for people to read, never for decisions: ISO 8601 UTC, by the clock of the node that wrote them.

    Attributes:
        submitted: When the job was submitted.
        started: When the first attempt took the lease.
        updated: When the record was last written.
        finished: When the job was over; None before.
    """

    submitted: str | None = None
    started: str | None = None
    updated: str | None = None
    finished: str | None = None


@frozen
class JobRecord:
    """Everything that is known about a job.

    Attributes:
        job: The job's id.
        workload: Name of the workload to run.
        params: Parameters of the workload (JSON values).
        state: State of the job; never SUPERSEDED.
        epoch: Number of the newest attempt, 0 before the first. It is the fencing token.
        owner: Name of the node of that attempt; None once the attempt has ended.
        lease_s: How long the owner's lease lasts after each write, in seconds.
        beat: Number of heartbeats of the attempt.
        write_id: A fresh random value in every write, by which a writer recognises its own.
        dispatch: Highest message sequence number that is known to have been sent.
        checkpoint: The last committed checkpoint.
        fallback: The checkpoint before, used if that one is damaged or useless.
        mark: The furthest point that a checkpoint has preserved.
        suspects: Checkpoints that were given up as useless since the job last got further, oldest first.
        announced: The newest checkpoint that the program announced.
        proven: The newest checkpoint that an attempt resumed from and went beyond.
        progress: Progress as of the last heartbeat.
        backlog: State that is saved on the node and not committed yet; None if there is none.
        saving: Why its work is not saved as it should be; None if it is.
        ran_s: Seconds during which the workload ran, over all attempts that have ended.
        failures: Attempts in a row that failed and did not get further than the job ever was.
        failed_on: The machines on which they failed.
        deaths: Lost attempts in a row, likewise.
        misfits: Nodes that could not run the job since it last ran. They are never held against it.
        interruptions: Number of attempts that ended early, by cause. They are never held against the job.
        attempts: The newest KEPT_ATTEMPTS attempts, oldest first.
        result: Result of a completed job.
        error: Why the job failed: one line, followed by the end of stderr if there is any.
        control: Requests of operators.
        labels: User-defined labels, used only for filtering.
        demo: Whether the job came as a message of the SaladCloud demo, whose file names are then used as well.
        archived: Name of the archive segment that holds the record. A record with this set is never changed again,
            and will be removed.
        timestamps: Times for people to read.
        outbox: Changes of state that are still to be reported. It is absent from the JSON of a job that never had any.
        schema: Version of the record in the store. Only taking the lease raises it, so a worker or an operator with an
            older Holdfast is never shut out by a newer one that merely wrote the record.
        unknown: Fields of the JSON that this version does not know. They are written back unchanged.
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
    mark: HighWaterMark = NO_MARK
    suspects: tuple[CheckpointRef, ...] = ()
    announced: CheckpointRef | None = None
    proven: CheckpointRef | None = None
    progress: Progress = Progress()
    backlog: Backlog | None = None
    saving: Saving | None = None
    ran_s: float = 0.0
    failures: int = 0
    failed_on: FailedOn = NO_FAILURES
    deaths: int = 0
    misfits: Misfits = NO_MISFITS
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
    schema: int = field(default=OLDEST_SCHEMA, repr=False)
    unknown: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        """True if the job is over."""
        return self.state in FINAL

    @property
    def is_settled(self) -> bool:
        """True if nothing is left to do: the job is over, and its outputs, if any, are published or cannot be."""
        return self.is_final and (self.result is None or self.result.published or bool(self.result.problem))

    def is_owned(self, age_s: float | None) -> bool:
        """Return whether the owner's lease may still be valid.

        Args:
            age_s: Age of the record by the store's clock, in seconds. It is the difference of two times that were
                truncated to whole seconds, and may be up to one second too large, so the owner is granted one more.
                None if it is unknown: then the lease may be valid.
        """
        return self.state in OWNED and (age_s is None or age_s <= self.lease_s + LEASE_SLACK_S)

    def with_attempt(self, **changes: Any) -> "JobRecord":
        """Return a copy with *changes* made to the summary of its newest attempt."""
        *before, newest = self.attempts
        return evolve(self, attempts=(*before, evolve(newest, **changes)))

    def with_interruption(self, cause: str) -> "JobRecord":
        """Return a copy that counts one more interruption by *cause*."""
        counts = {**self.interruptions, cause: self.interruptions.get(cause, 0) + 1}
        return evolve(self, interruptions=counts)


def iso(moment: datetime) -> str:
    """Return *moment* as records contain it: ISO 8601, UTC, in milliseconds."""
    return moment.isoformat(timespec="milliseconds")
