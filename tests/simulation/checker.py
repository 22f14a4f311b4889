"""The invariants, checked after every change of the bucket or the queue."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen
from simulation.world import Process, World

from adapters.memory.runner import FakeWorkload, table_bytes, trace_bytes
from lifecycle.attempt.outcome import WORKLOAD_FAILED
from lifecycle.checkpoint.manifest import HOLE, Extent, Manifest, Quality, digest_bytes
from lifecycle.checkpoint.manifest_codec import decode_manifest
from lifecycle.checkpoint.reader import FileVerifier, decompressed, placed_extents
from lifecycle.errors import CorruptCheckpointError
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.key_layout import KeyLayout, epoch_of
from lifecycle.record.codec import decode_record
from lifecycle.record.usability import RESUMES
from lifecycle.states import OWNED, State

if TYPE_CHECKING:
    from simulation.notifier import WatchedNotifier
    from simulation.ports import WatchedStore
    from simulation.truth import Truth

LAYOUT: Final = KeyLayout("sim")
cached_manifest = lru_cache(1 << 12)(decode_manifest)
RECORDS: Final = LAYOUT.records
OPERATOR: Final = "operator"
SETTLED_CODES: Final = frozenset({0, 75})
"""Exit codes of a workload that has saved what it had to."""
FOREIGN: Final = "foreign"
"""Start of the ids of jobs under another prefix."""
MEMORY_S: Final = 90.0
"""Seconds after a fault during which a process may be taken for lost."""
SLACK_S: Final = 20.0
"""Seconds that a crash may cost besides a saving interval: the upload in flight, over a slow network."""


class Violation(BaseException):
    """A broken invariant; no code under test catches it.

    Attributes:
        invariant: The invariant's name.
    """

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


ONE_WINNER: Final = "one winner"
NEVER_BACK: Final = "the checkpoint never goes back"
ALL_THERE: Final = "what the record names is there"
FENCE: Final = "each epoch writes its own"
QUALITY: Final = "a checkpoint is no better than it says"
LEASE: Final = "a lease is taken when it has run out"
TRUE_COUNTS: Final = "counters tell the truth"
MESSAGE: Final = "an unfinished job has a message"
PROOF: Final = "only proof ends an attempt"
CANCEL: Final = "a cancellation is not forgotten"
LIVENESS: Final = "every job ends"
WORK_LOST: Final = "a crash costs one interval at most"
NOTHING_BREAKS: Final = "no error escapes"
TIDY: Final = "nothing is left behind"


@frozen
class Planned:
    """The expected end of a job: its sum, or None and the reason of its failure."""

    total: int | None
    fails_with: str = ""


@define(eq=False)
class Checker:
    """Checks the invariants in one history.

    Attributes:
        world: Time, and the log of events.
        planned: The expected end of each job.
        interval_s: The saving interval of each job, in seconds; a step takes one second.
        max_failures: See `Limits`.
        max_lost_attempts: Likewise.
    """

    world: World
    planned: dict[str, Planned]
    interval_s: dict[str, float] = field(factory=dict)
    max_failures: int = 3
    max_lost_attempts: int = 6
    store: "WatchedStore" = field(init=False)
    notifier: "WatchedNotifier" = field(init=False)
    truth: "Truth" = field(init=False)
    records: dict[str, JobRecord] = field(factory=dict)
    written_at: dict[str, float] = field(factory=dict)
    epochs: dict[tuple[str, str], int] = field(factory=dict)
    owners: dict[tuple[str, int], str] = field(factory=dict)
    spoilt: set[str] = field(factory=set)
    unannounced: set[str] = field(factory=set)
    trouble_at: dict[str, float] = field(factory=dict)
    dead: set[str] = field(factory=set)
    workloads: dict[tuple[str, int], FakeWorkload] = field(factory=dict)
    lost_at_step: dict[str, tuple[int, int]] = field(factory=dict)
    furthest: dict[str, int] = field(factory=dict)
    failed_resumes: Counter[tuple[str, int]] = field(factory=Counter)
    bodies: dict[str, bytes] = field(factory=dict)
    contents: dict[str, dict[str, bytes]] = field(factory=dict)
    actor: Process | None = None

    # ---- calls by the simulation ----

    @contextmanager
    def acting(self, process: Process) -> Iterator[None]:
        """Attribute the changes made inside to *process*."""
        before, self.actor = self.actor, process
        try:
            yield
        finally:
            self.actor = before

    def troubled(self, process: Process, lasts_s: float = 0.0) -> None:
        """Note a fault of *process*, so that others may take it for lost."""
        self.trouble_at[process.name] = max(self.trouble_at.get(process.name, 0.0), self.world.time + lasts_s)

    def is_troubled(self, name: str | None) -> bool:
        """Return True if the process *name* had a fault recently."""
        return name in self.dead or self.world.time - self.trouble_at.get(name or "", -1e9) < MEMORY_S

    def crashed(self, process: Process, running: dict[str, int]) -> None:
        """Note the death of *process*, whose workloads have done *running* steps."""
        if not self.is_troubled(process.name):
            for job, step in running.items():
                record = self.records.get(job)
                if record and record.owner == process.name and record.state in OWNED:
                    self.lost_at_step[job] = (record.epoch, step)
        self.dead.add(process.name)

    def started(self, job: str, epoch: int, step: int) -> None:
        """Check the step at which a workload starts."""
        lost_epoch, lost_step = self.lost_at_step.pop(job, (0, 0))
        allowed = self.interval_s[job] + SLACK_S
        record = self.records[job]
        spoilt = record.checkpoint is not None and self.truth.was_spoilt(record.checkpoint)
        if lost_epoch == epoch - 1 and lost_step - step > allowed and not spoilt:
            raise self.broken(WORK_LOST, f"{job} was at step {lost_step} when its node died, and goes on from {step}")

    def superseded(self, before: JobRecord) -> None:
        """Check that the attempt that last wrote *before* ends because another owns the job."""
        now = self.records.get(before.job)
        if now and now.epoch == before.epoch and now.owner == before.owner is not None:
            raise self.broken(PROOF, f"{before.owner} gave up {before.job}, which is its own: {_shown(now)}")

    # ---- changes ----

    def wrote(self, key: str, body: bytes) -> None:
        """Check an object that was written."""
        self.spoilt.discard(key)
        if key.startswith(RECORDS):
            after = decode_record(body)
            job = LAYOUT.job_of_record(key)
            before = self.records.get(job)
            self._wrote_record(job, after)
            self.truth.recorded(before, after, body, self._name)
            return
        job = key.removeprefix(f"{LAYOUT.prefix}/").partition("/")[0]
        if (epoch := epoch_of(key)) is not None:
            if "/checkpoints/" in key:
                self.truth.packs[key] = frozenset(cached_manifest(body).packs)
            if self.owners.get((job, epoch)) != self._name:
                raise self.broken(FENCE, f"{self._who} of epoch {self._epoch(job)} wrote {key}")
            if self.bodies.setdefault(key, body) != body:
                raise self.broken(FENCE, f"{key} was written twice, with different bytes")
        elif "/output/" in key:
            self._wrote_output(job, key, body)

    def removed(self, key: str) -> None:
        """Check the removal of an object."""
        if key.startswith(RECORDS):
            self.truth.removed(key)
        epoch = epoch_of(key)
        job = key.removeprefix(f"{LAYOUT.prefix}/").partition("/")[0]
        if epoch is None or job not in self.records:
            return
        if epoch > self._epoch(job):
            raise self.broken(FENCE, f"{self._who} of epoch {self._epoch(job)} removed {key}")
        self._all_there(self.records[job], only=key)

    def unqueued(self, job: str, left: list[str]) -> None:
        """Check the deletion of a message for *job*; *left* names the jobs of the remaining messages."""
        if job.startswith(FOREIGN):
            raise self.broken(MESSAGE, f"{self._who} deleted the message of another prefix for {job}")
        record = self.records.get(job)
        is_over = record is not None and record.is_settled
        if not is_over and job not in left and job not in self.unannounced:
            state = record.state if record else "unheard of"
            raise self.broken(MESSAGE, f"the last message of {job}, which is {state}, was deleted by {self._who}")

    # ---- invariants of the record ----

    def _wrote_record(self, job: str, after: JobRecord) -> None:
        before = self.records.get(job, JobRecord(job, after.workload))
        self.world.tell(self._who, f"{job}: {_shown(after)}")
        self._one_winner(before, after)
        self._note_failed_resume(before, after)
        self._never_back(before, after)
        self._suspicion(before, after)
        self._ownership(job, before, after)
        self._counts(before, after)
        self._cancel(before, after)
        self.notifier.wrote(before, after)
        self.records[job] = after
        if self.operating and after.checkpoint is None:
            self.furthest.pop(job, None)
        if self._goes_further(after) and after.checkpoint:
            self.furthest[job] = after.checkpoint.step or 0
        self.written_at[job] = self.world.time
        self._all_there(after)
        if after.result and before.result is None:
            self._right_result(job, after)

    def _one_winner(self, before: JobRecord, after: JobRecord) -> None:
        if before.state is State.COMPLETED:
            same = before.result and after.result and before.result.manifest == after.result.manifest
            if after.state is not State.COMPLETED or not same:
                raise self.broken(ONE_WINNER, f"{after.job} was completed, and is {_shown(after)}")
        if (after.state is State.COMPLETED) != (after.result is not None):
            raise self.broken(ONE_WINNER, f"{after.job} is {after.state} with result {after.result}")

    def _never_back(self, before: JobRecord, after: JobRecord) -> None:
        old, new = before.checkpoint, after.checkpoint
        if old is None or self._is_spoilt(old) or (self.operating and after.state is State.QUEUED and new is None):
            return  # `truth` says what is allowed then
        is_back = new is None or new.seq < old.seq or (new.step or 0) < (old.step or 0)
        if is_back and not _is_recorded_fallback(before, after):
            raise self.broken(NEVER_BACK, f"{after.job} was at {_point(old)}, and is at {_point(new)}")

    def _note_failed_resume(self, before: JobRecord, after: JobRecord) -> None:
        """Count what the record should: attempts that failed by themselves after resuming from its checkpoint."""
        ended = after.attempts[-1] if after.attempts else None
        was_running = before.attempts and before.attempts[-1].ended is None
        if not ended or not was_running or ended.ended is None or ended.outcome != WORKLOAD_FAILED:
            return
        if ended.resumed_from is not None:
            self.failed_resumes[after.job, ended.resumed_from] += 1

    def _suspicion(self, before: JobRecord, after: JobRecord) -> None:
        """Check that only failed attempts cast suspicion on a checkpoint, and that a mark grants one fallback."""
        mark, was, point = after.mark, before.mark, before.checkpoint
        known = self.failed_resumes[after.job, point.seq] if point else 0
        if mark.failed_resumes > max(known, was.failed_resumes):
            raise self.broken(
                TRUE_COUNTS, f"{after.job}: {mark.failed_resumes} failed resumes from {_point(point)}, after {known}"
            )
        if not _is_recorded_fallback(before, after):
            if was.fell_back and not mark.fell_back and not self._goes_further(after) and not self.operating:
                raise self.broken(TRUE_COUNTS, f"{after.job}: its fallback was granted again without a further commit")
            return
        if was.fell_back:
            raise self.broken(TRUE_COUNTS, f"{after.job} fell back twice from one high-water mark, {was}")
        if known < RESUMES and after.failures < self.max_failures and after.deaths < self.max_lost_attempts:
            raise self.broken(TRUE_COUNTS, f"{after.job} fell back from {_point(point)} after {known} failed resumes")

    def _goes_further(self, after: JobRecord) -> bool:
        """Return whether a commit is beyond everything that was committed before."""
        step = after.checkpoint.step if after.checkpoint else None
        return step is not None and step > self.furthest.get(after.job, -1)

    def _counts(self, before: JobRecord, after: JobRecord) -> None:
        if after.dispatch < before.dispatch:
            raise self.broken(TRUE_COUNTS, f"{after.job}: dispatch fell from {before.dispatch} to {after.dispatch}")
        further = after.state is State.COMPLETED or self._goes_further(after)
        fell = after.failures < before.failures or after.deaths < before.deaths
        if fell and not further and not (self.operating and after.state is State.QUEUED):
            raise self.broken(
                TRUE_COUNTS,
                f"{after.job}: failures and deaths were {before.failures} and {before.deaths}, and are "
                f"{after.failures} and {after.deaths}, without a further checkpoint",
            )
        if after.failures > before.failures and not _has_failed(before, after):
            raise self.broken(TRUE_COUNTS, f"{after.job}: {_outcome(after)} was counted as a failure")
        lost = after.interruptions.get("node_lost", 0) > before.interruptions.get("node_lost", 0)
        silent = self.trouble_at.get(before.owner or "", -1e9) > self.written_at.get(
            after.job, 0.0
        )  # since its last write
        if lost and not silent and not self.is_troubled(before.owner):
            raise self.broken(
                TRUE_COUNTS, f"{after.job}: {before.owner} was counted lost, and nothing had happened to it"
            )

    def _cancel(self, before: JobRecord, after: JobRecord) -> None:
        if before.control.cancel and not after.control.cancel and not self.operating:
            raise self.broken(
                CANCEL, f"{after.job} was to be cancelled; {self._who} wrote a record that says nothing of it"
            )

    def _ownership(self, job: str, before: JobRecord, after: JobRecord) -> None:
        if self.operating:
            return
        if after.epoch == before.epoch:
            published = before.state is State.COMPLETED
            if not published and self._epoch(job) != after.epoch:
                raise self.broken(
                    FENCE, f"{self._who}, of epoch {self._epoch(job)}, wrote a record of epoch {after.epoch}"
                )
            return
        if after.epoch != before.epoch + 1 or after.state is not State.RECEIVED or after.owner != self._name:
            raise self.broken(FENCE, f"{self._who} wrote epoch {after.epoch} over {before.epoch}: {_shown(after)}")
        age_s = self.world.time - self.written_at.get(job, 0.0)
        if before.state in OWNED and age_s < before.lease_s:
            raise self.broken(LEASE, f"{self._who} took {job} from {before.owner}, {age_s:.1f} s after its last write")
        if before.is_final:
            raise self.broken(ONE_WINNER, f"{self._who} took {job}, which was {before.state}")
        self.epochs[self._name, job] = after.epoch
        self.owners[job, after.epoch] = self._name

    # ---- invariants of the data ----

    def _all_there(self, record: JobRecord, only: str | None = None) -> None:
        older = (*record.suspects, record.announced, record.proven)
        refs = [record.checkpoint, record.fallback, record.result.manifest if record.result else None, *older]
        if record.state is State.COMPLETED:
            refs = refs[2:]
        for ref in refs:
            if ref is None:
                continue
            body = self._object(ref.manifest) or b""
            if ref.manifest not in self.spoilt and digest_bytes(body) != ref.digest:
                raise self.broken(ALL_THERE, f"{record.job} names {ref.manifest}, which is missing or not that")
            for pack in self.truth.objects_of(ref) - {ref.manifest}:
                if only in {None, pack} and pack not in self.spoilt and self._object(pack) is None:
                    raise self.broken(ALL_THERE, f"{record.job} names {pack}, which is missing")
            if ref.manifest not in self.contents and not self._is_spoilt(ref):  # objects never change: once is enough
                self._true_quality(cached_manifest(body))
                self.contents[ref.manifest] = self._right_files(cached_manifest(body), ref)

    def _true_quality(self, manifest: Manifest) -> None:
        """Check what a manifest says about its capture against what its workload is and has done."""
        workload = self.workloads[manifest.job, manifest.epoch]
        possible = {Quality.FROZEN} if workload._silent else {Quality.ANNOUNCED}
        if workload._silent and not workload._mapped:
            possible.add(Quality.QUIET)
        if workload._exited and workload._exited.code in SETTLED_CODES:
            possible.add(Quality.EXITED)
        if manifest.quality not in possible:
            raise self.broken(QUALITY, f"{manifest.job}: {manifest.quality} is not one of {sorted(possible)}")

    def _right_files(self, manifest: Manifest, ref: CheckpointRef) -> dict[str, bytes]:
        """Return the files of a manifest, after checking all hashes and the workload's content for its step."""
        files = {}
        for entry in manifest.files:
            proof, content = FileVerifier(entry), b""
            try:
                for piece in placed_extents(entry):
                    if piece.extent.pack == HOLE:
                        content += bytes(piece.extent.length)
                        continue
                    stored = self._stored(piece.extent)
                    proof.receive(piece, memoryview(stored))
                    content += stored
                proof.conclude()
            except CorruptCheckpointError as error:
                raise self.broken(ALL_THERE, f"{ref.manifest}: {error}") from error
            files[entry.path] = content
        step = ref.step or 0
        for path, wanted in (
            ("checkpoint/trace.bin", trace_bytes(step)),
            ("checkpoint/table.bin", table_bytes(step)),
        ):
            if files.get(path, wanted) != wanted:
                raise self.broken(ALL_THERE, f"{ref.manifest}: {path} is not of step {step}")
        return files

    def _stored(self, extent: Extent) -> bytes:
        span = (self._object(extent.pack) or b"")[extent.offset : extent.offset + extent.span]
        if extent.frame_length is None:
            return span
        return decompressed(memoryview(span), extent.pack)[extent.skip : extent.skip + extent.length]

    def _right_result(self, job: str, record: JobRecord) -> None:
        files = self._files(record)
        total = self.planned[job].total
        if files is not None and files.get("output/output.txt") != f"{total}\n".encode():
            raise self.broken(ONE_WINNER, f"the result of {job} is {files}, not {total}")

    def _wrote_output(self, job: str, key: str, body: bytes) -> None:
        record = self.records[job]
        files = self._files(record)
        if record.state is not State.COMPLETED:
            raise self.broken(ONE_WINNER, f"{self._who} published {key} while the job was {record.state}")
        if files is not None and files.get(f"output/{key.partition('/output/')[2]}") != body:
            raise self.broken(ONE_WINNER, f"{self._who} published {key}, which is not the result's")

    def _files(self, record: JobRecord) -> dict[str, bytes] | None:
        """Return the files of a result, or None if it was damaged on purpose."""
        if record.result is None or self._is_spoilt(record.result.manifest):
            return None
        return self.contents[record.result.manifest.manifest]

    def manifest(self, ref: CheckpointRef) -> Manifest | None:
        """Return the manifest that *ref* names."""
        body = self._object(ref.manifest)
        return decode_manifest(body) if body else None

    def _object(self, key: str) -> bytes | None:
        found = self.store._objects.get(key)
        return found.body if found else None

    def _is_spoilt(self, ref: CheckpointRef) -> bool:
        return bool(self.spoilt) and not self.spoilt.isdisjoint(self.truth.objects_of(ref))

    # ---- texts ----

    @property
    def operating(self) -> bool:
        """True while an operator acts."""
        return self._name.startswith(OPERATOR)

    @property
    def _name(self) -> str:
        return self.actor.name if self.actor else ""

    @property
    def _who(self) -> str:
        return self._name or "the operator"

    def _epoch(self, job: str) -> int:
        return self.epochs.get((self._name, job), 0)

    def broken(self, invariant: str, text: str) -> Violation:
        """Log a violation, and return the error to raise."""
        self.world.tell("", f"*** {invariant}: {text}")
        return Violation(invariant, text)


def _is_recorded_fallback(before: JobRecord, after: JobRecord) -> bool:
    """Return whether *after* gives the checkpoint of *before* up as useless, and goes on from the one before."""
    given_up = before.checkpoint is not None and before.checkpoint in after.suspects
    return given_up and before.checkpoint not in before.suspects and after.checkpoint == before.fallback


def _outcome(record: JobRecord) -> str | None:
    return record.attempts[-1].outcome if record.attempts else None


def _has_failed(before: JobRecord, after: JobRecord) -> bool:
    """Return whether the newest attempt has just ended with a failure, or paused with nothing to show for its time."""
    ended = after.attempts[-1] if after.attempts else None
    was_running = bool(before.attempts) and before.attempts[-1].ended is None
    return was_running and ended is not None and ended.outcome in {WORKLOAD_FAILED, "timeout"}


def _point(ref: CheckpointRef | None) -> str:
    return f"checkpoint {ref.seq} of step {ref.step}" if ref else "no checkpoint"


def _shown(record: JobRecord) -> str:
    parts = [f"{record.state}", f"epoch {record.epoch}", f"beat {record.beat}", _point(record.checkpoint)]
    if record.control.cancel:
        parts.append("to be cancelled")
    if record.failures or record.deaths:
        parts.append(f"{record.failures} failures, {record.deaths} deaths")
    return ", ".join(parts)
