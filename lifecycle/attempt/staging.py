"""Getting a job ready to run here: what runs, its input, the last good checkpoint."""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Final

from attrs import frozen

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import CancelAsked, DrainAsked, Event, LeaseLost
from lifecycle.attempt.outcome import Outcome
from lifecycle.attempt.salad_demo import DemoFiles
from lifecycle.checkpoint.manifest import is_safe_path
from lifecycle.checkpoint.restore import RestoredCheckpoint, restore
from lifecycle.concurrency import ThreadPool
from lifecycle.errors import LeaseLostError, PermanentError, RetryableError
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.key_layout import JobKeys
from lifecycle.limits import saving_interval
from lifecycle.ports.clock import Mailbox
from lifecycle.ports.runner import JobDirs, Launch, Workload
from lifecycle.ports.store import ListedObject, ObjectStore, Range
from lifecycle.states import Trigger

FETCHERS: Final = 4  # pieces of input on their way at once
AT_ONCE: Final = 16 << 20  # bytes of one

log = logging.getLogger("holdfast.preparation")


class StagingInterrupted(Exception):  # noqa: N818 - a way out, not an error
    """The attempt is to end before its workload has started.

    Attributes:
        outcome: How.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.cause)
        self.outcome = outcome


@frozen
class StagedJob:
    """A job ready to start: how to launch it, and the checkpoint that it goes on from, if any."""

    launch: Launch
    restored: RestoredCheckpoint | None


@frozen
class Staging:
    """What is needed to get one attempt's job ready.

    Attributes:
        context: The ports and the numbers.
        keys: The job's keys.
        dirs: Its directories here.
        events: What the other threads say meanwhile.
        event_log: The attempt's log.
        demo: The demo's file names, if the job came as its message.
    """

    context: WorkerContext
    keys: JobKeys
    dirs: JobDirs
    events: Mailbox[Event]
    event_log: EventLog
    demo: DemoFiles | None

    def ready(self, record: JobRecord) -> StagedJob:
        """Fetch everything and verify it.

        Raises:
            StagingInterrupted: Somebody asks the attempt to end.
            LeaseLostError: Another epoch owns the job.
            PermanentError: The job cannot run, here or anywhere: unknown workload, no input, no sound checkpoint.
            RetryableError: Something could not be read; nothing is known of it.
            OSError: This node's disk would not take it.
        """
        workload = self._workload(record)
        interval = saving_interval(record.params, workload.saving_interval or self.context.limits.state_saving_interval)
        self._make_directories()
        loaded = self._load_input()
        if workload.needs_input and not loaded:
            raise PermanentError(f"no input: neither {self.keys.input} nor {self.keys.input_file} is there")
        restored = self._restore(record)
        resumed = restored is not None or self._takes_up(record)
        launch = Launch(
            workload=workload,
            job=record.job,
            epoch=record.epoch,
            params=record.params,
            resumed=resumed,
            saving_interval=interval,
            dirs=self.dirs,
        )
        return StagedJob(launch, restored)

    def _workload(self, record: JobRecord) -> Workload:
        offered = self.context.workloads
        if record.workload not in offered:
            raise PermanentError(
                f"unknown workload {record.workload!r}: this image offers {', '.join(sorted(offered))}"
            )
        return offered[record.workload]

    def _make_directories(self) -> None:
        """Make the job's directories: all empty, but for what a restore may use again."""
        for directory in (self.dirs.input, self.dirs.control, self.dirs.console):
            shutil.rmtree(directory, ignore_errors=True)
        for directory in (self.dirs.input, self.dirs.control, self.dirs.console, self.dirs.snapshots):
            directory.mkdir(parents=True, exist_ok=True)

    def _load_input(self) -> int:
        """Fetch all that lies under `input/`, or else the one file `input.txt`; returns how many files."""
        store, keys = self.context.store, self.keys
        found = [
            (listed, listed.key.removeprefix(keys.input))
            for listed in store.list(keys.input)
            if listed.size_bytes or not listed.key.endswith("/")  # browsers of buckets make "folders" so
        ]
        if not found:
            found = [(listed, "input.txt") for listed in store.list(keys.input_file) if listed.key == keys.input_file]
        pool = ThreadPool(self.context.clock, name="fetch-input", max_threads=FETCHERS)
        for listed, name in found:
            if not is_safe_path(name):
                raise PermanentError(f"the input {listed.key} has a name that would leave its directory")
            target = self.dirs.input / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            for offset in range(0, listed.size_bytes, AT_ONCE):
                self._check_interrupted()
                piece = Range(listed.key, offset, min(AT_ONCE, listed.size_bytes - offset))
                pool.submit(partial(_fetch_piece, store, piece, target))
        pool.finish()
        if any(listed.size_bytes > AT_ONCE for listed, _ in found):
            self._expect_unchanged([listed for listed, _ in found])
        return len(found)

    def _expect_unchanged(self, found: list[ListedObject]) -> None:
        """What was read in pieces must not be pieces of two files."""
        now = {listed.key: listed.version for listed in self.context.store.list(self.keys.folder + "input")}
        for listed in found:
            if now.get(listed.key) != listed.version:
                raise RetryableError(f"the input {listed.key} changed while it was read")

    def _restore(self, record: JobRecord) -> RestoredCheckpoint | None:
        def on_damaged(ref: CheckpointRef, why: str) -> None:
            log.error("%s: checkpoint %d is damaged: %s", record.job, ref.seq, why)
            self.event_log.write("checkpoint_damaged", seq=ref.seq, why=why)

        refs = [ref for ref in (record.checkpoint, record.fallback) if ref]
        if not refs:
            for directory in (self.dirs.checkpoint, self.dirs.output):
                shutil.rmtree(directory, ignore_errors=True)
        restored = restore(
            self.context.store,
            self.context.clock,
            refs,
            self.dirs.root,
            local=self.dirs.snapshots,
            check_interrupted=self._check_interrupted,
            on_damaged=on_damaged,
        )
        shutil.rmtree(self.dirs.snapshots, ignore_errors=True)
        for directory in (self.dirs.snapshots, self.dirs.checkpoint, self.dirs.output):
            directory.mkdir(parents=True, exist_ok=True)
        return restored

    def _takes_up(self, record: JobRecord) -> bool:
        """Whether there is a state that the demo's own worker left; after our first checkpoint it is a copy of that."""
        is_ours = any(attempt.commits for attempt in record.attempts)
        return self.demo is not None and not is_ours and self.demo.fetch_state(self.dirs.checkpoint)

    def _check_interrupted(self) -> None:
        """Between two files: is there any reason to stop?"""
        match self.events.get(0):
            case None:
                pass
            case LeaseLost(why):
                raise LeaseLostError(why)
            case DrainAsked():
                raise StagingInterrupted(Outcome(Trigger.RELEASE, "drained"))
            case CancelAsked():
                raise StagingInterrupted(Outcome(Trigger.CANCEL, "cancelled"))
            case other:
                raise RuntimeError(f"not expected before the workload runs: {other}")


def _fetch_piece(store: ObjectStore, piece: Range, target: Path) -> None:
    content = store.get_range(piece)
    if content is None or len(content) != piece.length:
        raise RetryableError(f"the input {piece.key} changed while it was read")
    with target.open("rb+") as file:
        file.seek(piece.offset)
        file.write(content)
