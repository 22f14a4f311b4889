"""The truth of a history: what the simulated network, processes and operators really did, compared with the records.

Nothing here is read from a record alone: failures are counted when a workload exits, lost attempts when a lease is
taken from an owner, cancellations when an operator's write lands, and messages when the queue accepts them.
"""

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from attrs import define, field
from simulation.checker import (
    ALL_THERE,
    CANCEL,
    LAYOUT,
    MESSAGE,
    NEVER_BACK,
    ONE_WINNER,
    OPERATOR,
    TRUE_COUNTS,
    Checker,
    Violation,
)
from simulation.watch import Run, Watch
from simulation.world import Process, World

from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.limits import Limits
from lifecycle.states import FINAL, OWNED, State

if TYPE_CHECKING:
    from adapters.memory.runner import FakeWorkload
    from lifecycle.ports.queue import Message

TAKEN_SOON: Final = "a job without an owner is taken soon"
SCHEMAS: Final = "only a take raises the schema"
FALLBACK: Final = "the fallback is the checkpoint before"

TAKEN_S: Final = 75.0
"""Seconds in which a job is taken once its owner is silent: lease, hiding, jitter, a poll, a worker being replaced."""
WORKLOAD_FAILED: Final = "workload_failed"


@define(eq=False)
class JobTruth:
    """What is known of one job.

    Attributes:
        cancelled_at: Epoch of the record in which a cancellation landed, if none was taken back by a retry since.
        reopened_on: When it was last retried.
        lost: Attempts whose lease was taken from them.
        committed: The running attempt has committed a checkpoint.
        furthest: The furthest step that was ever committed.
        went_further: The running attempt has committed a checkpoint beyond that.
        owner_wrote_at: When the owner last wrote the record.
        renewed_at: When an operator last wrote it.
        sent: The highest sequence number of a message that the queue accepted.
        sent_on: When the queue last accepted one.
    """

    cancelled_at: int | None = None
    reopened_on: float = -1.0
    lost: int = 0
    committed: bool = False
    furthest: int = -1
    went_further: bool = False
    owner_wrote_at: float = 0.0
    renewed_at: float = 0.0
    sent: int = 0
    sent_on: float = -1.0


@define(eq=False)
class Truth:
    """Compares what really happened with what the records say.

    Attributes:
        world: Time, and the log of events.
        checker: Holds the records, and reports violations.
        limits: The workers' limits.
        expects_takes: There is one job, and no age is unknown, so idle workers must take it soon if it has no owner.
        healed_at: When all faults stopped; None before.
        jobs: What is known of each job.
        doing: What each operator is doing: the command and its job.
        ever_spoilt: Every object that was damaged on purpose.
        packs: The packs of each manifest that was ever written.
        watch: Watches over processes and their runs.
    """

    world: World
    checker: Checker
    limits: Limits
    expects_takes: bool = False
    healed_at: float | None = None
    jobs: defaultdict[str, JobTruth] = field(factory=lambda: defaultdict(JobTruth))
    doing: dict[str, tuple[str, str]] = field(factory=dict)
    ever_spoilt: set[str] = field(factory=set)
    packs: dict[str, frozenset[str]] = field(factory=dict)
    watch: Watch = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = Watch(self.world, self.checker, self.limits)

    # ---- runs, messages and operators ----

    def started(self, process: Process, job: str, epoch: int, workload: "FakeWorkload") -> None:
        """Note that a workload starts, and watch over it."""
        cancelled_at = self.jobs[job].cancelled_at
        if cancelled_at is not None and epoch > cancelled_at:
            text = f"{job} was cancelled at epoch {cancelled_at}, and runs again in epoch {epoch}"
            raise self.checker.broken(CANCEL, text)
        self.watch.started(process, job, epoch, workload)

    def acknowledged(self, command: str, job: str, *, since: float) -> None:
        """Check that what an operator was told to be done, by a command begun at *since*, was done."""
        known = self.jobs[job]
        if command == "cancel" and known.cancelled_at is None and known.reopened_on < since:
            raise self.checker.broken(CANCEL, f"the cancellation of {job} was acknowledged, and never recorded")
        if command.startswith("retry") and not self.was_sent(job, since):
            raise self.checker.broken(MESSAGE, f"the retry of {job} was acknowledged, and no message was sent")

    def was_sent(self, job: str, since: float) -> bool:
        """Return whether the queue has accepted a message for *job* since then."""
        return self.jobs[job].sent_on >= since

    def removed(self, key: str) -> None:
        """Check the removal of a record: the archive has it, and its tombstone stands."""
        job = LAYOUT.job_of_record(key)
        record = self.checker.records.get(job)
        if record and not (record.archived and LAYOUT.job(job).tombstone in self.checker.store._objects):
            raise self.checker.broken(ALL_THERE, f"the record of {job} was removed, and it is not in the archive")

    def sent(self, messages: "list[Message]") -> None:
        """Note the messages that the queue accepted."""
        for message in messages:
            sequence = json.loads(message.body).get("dispatch", 0)
            known = self.jobs[message.job]
            known.sent, known.sent_on = max(known.sent, sequence), self.world.time

    # ---- records ----

    def recorded(self, before: JobRecord | None, after: JobRecord, body: bytes, by: str) -> None:
        """Compare a record that was written with what is known."""
        known, what = self.jobs[after.job], self.doing.get(by, ("", ""))
        doing = what[0] if what[1] in {after.job, ""} else ""
        self.watch.wrote(body, after)
        if before is not None:
            self._compare_cancel(known, before, after, by, doing)
            self._compare_checkpoints(known, before, after, by)
            self._compare_lost(known, before, after, by)
            self._compare_failures(known, before, after, by)
            self._compare_times(known, before, after, by)
            if after.dispatch > max(before.dispatch, known.sent):
                raise self._broken(MESSAGE, after, f"message {after.dispatch} was never sent, only {known.sent}")
            takes = after.epoch > before.epoch and by == after.owner
            if after.schema < before.schema or (after.schema > before.schema and not takes):
                raise self._broken(SCHEMAS, after, f"{by} changed its schema from {before.schema} to {after.schema}")
            if before.archived:
                raise self._broken(ONE_WINNER, after, "it was archived, and is written again")
        if by.startswith(OPERATOR):
            known.renewed_at = self.world.time
        elif by == after.owner:
            known.owner_wrote_at = self.world.time

    def _compare_cancel(self, known: JobTruth, before: JobRecord, after: JobRecord, by: str, doing: str) -> None:
        ended = after.state is State.CANCELLED and before.state is not State.CANCELLED
        asked = after.control.cancel and not before.control.cancel
        if doing == "cancel" and (ended or asked):
            known.cancelled_at = after.epoch
        elif doing.startswith("retry") and after.state is State.QUEUED and before.state is not State.QUEUED:
            known.cancelled_at, known.reopened_on = None, self.world.time
            if after.control.cancel:
                raise self._broken(CANCEL, after, "it was retried, and is still to be cancelled")
        elif asked or (ended and known.cancelled_at is None and doing != "reconcile"):
            raise self._broken(CANCEL, after, f"{by} cancelled it, and nothing had asked for that since its last retry")
        if before.state in {State.FAILED, State.CANCELLED} and after.state is not before.state and not doing:
            raise self._broken(ONE_WINNER, after, f"{by} reopened it, and it was {before.state}")
        over = after.state in FINAL and not ended and after.state is not before.state
        if over and known.cancelled_at is not None and after.epoch > known.cancelled_at:
            raise self._broken(CANCEL, after, f"it was cancelled at epoch {known.cancelled_at}")

    def _compare_checkpoints(self, known: JobTruth, before: JobRecord, after: JobRecord, by: str) -> None:
        old, new = before.checkpoint, after.checkpoint
        if _key(old) == _key(new):
            if old and before.fallback and _key(after.fallback) not in {_key(before.fallback), ""}:
                raise self._broken(FALLBACK, after, f"its fallback changed from {before.fallback} to {after.fallback}")
        elif by.startswith(OPERATOR) and after.state is State.QUEUED and new is None:
            known.furthest = -1  # a retry from the start
        elif old in getattr(after, "suspects", ()):
            if _key(new) != _key(before.fallback):
                raise self._broken(NEVER_BACK, after, f"it gave up {old}, and goes on from {new}")
        elif new is None or (old and new.seq <= old.seq):
            raise self._broken(NEVER_BACK, after, f"it was at {old}, and is at {new}")
        else:
            self._compare_commit(before, after, new)
            known.committed = True
            if (new.step or 0) > known.furthest:
                known.went_further, known.furthest = True, new.step or 0

    def _compare_commit(self, before: JobRecord, after: JobRecord, new: CheckpointRef) -> None:
        """Check that a commit goes on from the checkpoint before, or from the one before that if it was damaged."""
        old, bases = before.checkpoint, {_key(before.checkpoint)}
        if old and self.was_spoilt(old):
            bases.add(_key(before.fallback))
            if before.fallback and self.was_spoilt(before.fallback):
                bases.add(_key(None))
            elif before.fallback and (new.step or 0) < (before.fallback.step or 0):
                raise self._broken(NEVER_BACK, after, f"it went back beyond its fallback {before.fallback}, to {new}")
        if after.state is not State.COMPLETED and _key(after.fallback) not in bases:
            raise self._broken(FALLBACK, after, f"its fallback is {after.fallback}, and its checkpoint was {old}")

    def objects_of(self, ref: CheckpointRef) -> frozenset[str]:
        """Return the keys of a checkpoint's manifest and packs, as they were when it was written."""
        return self.packs.get(ref.manifest, frozenset()) | {ref.manifest}

    def was_spoilt(self, ref: CheckpointRef) -> bool:
        """Return whether an object of a checkpoint was ever damaged on purpose."""
        return bool(self.ever_spoilt) and not self.ever_spoilt.isdisjoint(self.objects_of(ref))

    def _compare_lost(self, known: JobTruth, before: JobRecord, after: JobRecord, by: str) -> None:
        allowed = {before.deaths}
        if after.epoch > before.epoch and by == after.owner:
            if before.state in OWNED:
                known.lost += 1
                self._expect_taken_soon(known, after)
                if not known.committed:
                    allowed = {before.deaths + 1}
                elif not known.went_further:
                    allowed |= {before.deaths + 1}
            known.committed = known.went_further = False
        elif _key(after.checkpoint) != _key(before.checkpoint) or after.state in {State.COMPLETED, State.QUEUED}:
            allowed.add(0)
        if after.deaths not in allowed:
            raise self._broken(TRUE_COUNTS, after, f"deaths are {after.deaths}, and were {before.deaths}")
        if after.interruptions.get("node_lost", 0) != known.lost:
            raise self._broken(TRUE_COUNTS, after, f"{known.lost} nodes were lost, not {dict(after.interruptions)}")

    def _expect_taken_soon(self, known: JobTruth, after: JobRecord) -> None:
        since = max(self.healed_at or 0.0, known.owner_wrote_at, known.renewed_at)
        hidden = bool(after.misfits.seen)  # nodes that cannot run the job hide its message for longer and longer
        is_expected = self.expects_takes and not hidden and after.job not in self.checker.unannounced
        waited_s = self.world.time - since
        if is_expected and waited_s > TAKEN_S and self.watch.has_idle_worker(since):
            raise self._broken(TAKEN_SOON, after, f"it waited for {waited_s:.1f} s")

    def _compare_failures(self, known: JobTruth, before: JobRecord, after: JobRecord, by: str) -> None:
        ends = _ends(before, after, by)
        run = self.watch.run_of(after.job, before.epoch)
        if after.failures > before.failures:
            is_timeout = after.state in {State.PAUSED_FOR_TIMEOUT, State.FAILED} and not known.committed
            crashed = ends and run is not None and (run.has_crashed or is_timeout)
            if not crashed or after.failures != before.failures + 1:
                raise self._broken(TRUE_COUNTS, after, f"failures rose from {before.failures} to {after.failures}")
        elif after.failures < before.failures:
            moved = _key(after.checkpoint) != _key(before.checkpoint) or (ends and known.committed)
            if not moved and after.state not in {State.COMPLETED, State.QUEUED}:
                raise self._broken(TRUE_COUNTS, after, f"failures fell from {before.failures} to {after.failures}")
        elif ends and run and run.has_crashed and not known.committed and _outcome(after) == WORKLOAD_FAILED:
            raise self._broken(TRUE_COUNTS, after, f"its workload failed, and failures stay {after.failures}")

    def _compare_times(self, known: JobTruth, before: JobRecord, after: JobRecord, by: str) -> None:
        added_s, run = after.ran_s - before.ran_s, self.watch.run_of(after.job, before.epoch)
        if after.state is State.QUEUED and added_s == -before.ran_s:
            return
        if _ends(before, after, by):
            least, most = self._ran(run)
        elif after.epoch > before.epoch and before.state in OWNED and by == after.owner:
            least, most = 0.0, self._ran(run)[1]
        else:
            least = most = 0.0
        if not least - 0.01 <= added_s <= most + 0.01:
            raise self._broken(
                TRUE_COUNTS, after, f"it ran for {least} to {most} s more, and the record adds {added_s}"
            )
        kinds = sum(after.interruptions.values()) - sum(before.interruptions.values())
        early = after.state in {State.RELEASED, State.PAUSED_FOR_TIMEOUT} and _outcome(after) != WORKLOAD_FAILED
        lost = after.epoch > before.epoch and before.state in OWNED and by == after.owner
        if kinds != int((_ends(before, after, by) and early) or lost):
            raise self._broken(TRUE_COUNTS, after, f"{kinds} interruptions are added: {dict(after.interruptions)}")

    def _ran(self, run: Run | None) -> tuple[float, float]:
        """Return the least and the most for which *run* lasted."""
        if run is None:
            return 0.0, 0.0
        return max(run.workload._step - run.first_step - 2.0, 0.0), self.world.time - run.began

    def _broken(self, invariant: str, record: JobRecord, text: str) -> Violation:
        return self.checker.broken(invariant, f"{record.job}, {record.state}, epoch {record.epoch}: {text}")


def _key(ref: CheckpointRef | None) -> str:
    return ref.manifest if ref else ""


def _outcome(record: JobRecord) -> str | None:
    return record.attempts[-1].outcome if record.attempts else None


def _ends(before: JobRecord, after: JobRecord, by: str) -> bool:
    """Return whether this write ends an attempt of *by*."""
    return before.owner == by and after.owner is None and before.epoch == after.epoch
