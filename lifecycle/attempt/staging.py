"""Staging: load a job's input, restore its last good checkpoint, and say what to start."""

from attrs import evolve

from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.events import CancelAsked, DrainAsked, LeaseLost
from lifecycle.attempt.input_files import InputFiles
from lifecycle.attempt.outcome import Outcome
from lifecycle.attempt.phases import ClaimedJob, StagedJob
from lifecycle.checkpoint.restore import RestoredCheckpoint, restore
from lifecycle.checkpoint.tree import remove_tree
from lifecycle.errors import LeaseLostError, MisfitError, PermanentError
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.limits import saving_interval
from lifecycle.ports.runner import JobDirs, Launch
from lifecycle.states import Trigger
from lifecycle.structured_log import StructuredLogger

log = StructuredLogger("holdfast.staging")


class StagingInterrupted(Exception):  # noqa: N818 - a way out, not an error
    """The attempt must end before its workload has started.

    Attributes:
        outcome: How it ends.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.cause)
        self.outcome = outcome


def stage(claimed: ClaimedJob, record: JobRecord) -> StagedJob:
    """Load the input and restore the last good checkpoint of the job of *record*.

    Raises:
        StagingInterrupted: The worker is draining, or the job was cancelled.
        LeaseLostError: Another epoch owns the job.
        MisfitError: This node cannot run the job: it lacks the workload, or the program.
        PermanentError: The job cannot run, here or anywhere: a missing parameter, no input, no sound checkpoint.
        RetryableError: Something could not be read; nothing is known of it.
        OSError: The node's disk refused a write.
    """
    staging = _Staging(claimed)
    launch = fitting_launch(claimed.context, record, claimed.dirs)
    workload = launch.workload
    staging.make_directories()
    loaded = staging.load_input()
    if workload.needs_input and not loaded:
        raise PermanentError(f"no input: neither {claimed.keys.input} nor {claimed.keys.input_file} exists")
    restored = staging.restore_checkpoint(record)
    resumed = restored is not None or staging.adopt_demo_state(record)
    return StagedJob(evolve(launch, resumed=resumed), restored)


def fitting_launch(context: WorkerContext, record: JobRecord, dirs: JobDirs) -> Launch:
    """Return what to start for the job of *record*, after checking that this node can. Reads and writes nothing.

    Raises:
        MisfitError: This node cannot: it lacks the workload, or the program.
        PermanentError: No node can.
    """
    workload = context.workloads.get(record.workload)
    if workload is None:
        raise MisfitError(f"workload {record.workload!r:.200}")
    launch = Launch(
        workload=workload,
        job=record.job,
        epoch=record.epoch,
        params=record.params,
        resumed=False,
        saving_interval=saving_interval(
            record.params, workload.saving_interval or context.limits.state_saving_interval
        ),
        dirs=dirs,
    )
    context.runner.expect_startable(launch)
    return launch


class _Staging:
    """The steps of staging one job."""

    def __init__(self, claimed: ClaimedJob) -> None:
        self._claimed = claimed
        self._context = claimed.context
        self._keys = claimed.keys
        self._dirs = claimed.dirs

    def make_directories(self) -> None:
        """Make the job's directories: all empty, except for what a restore may reuse."""
        emptied = (self._dirs.input, self._dirs.control, self._dirs.console, self._dirs.temporary)
        for directory in emptied:
            remove_tree(directory)
        for directory in (*emptied, self._dirs.snapshots):
            directory.mkdir(parents=True, exist_ok=True)

    def load_input(self) -> int:
        """Fetch the input, and return the number of its files."""
        return InputFiles(
            self._context.store,
            self._context.clock,
            keys=self._keys,
            directory=self._dirs.input,
            check_interrupted=self._raise_if_interrupted,
        ).load()

    def restore_checkpoint(self, record: JobRecord) -> RestoredCheckpoint | None:
        """Restore the newest sound checkpoint of *record*, and return it; None if the job has none."""

        def skip_damaged(ref: CheckpointRef, reason: str) -> None:
            log.error("checkpoint.damaged", job=record.job, seq=ref.seq, reason=reason)
            self._claimed.event_log.write("checkpoint_damaged", seq=ref.seq, why=reason)

        refs = [ref for ref in (record.checkpoint, record.fallback) if ref]
        if not refs:
            for directory in (self._dirs.checkpoint, self._dirs.output):
                remove_tree(directory)
        restored = restore(
            self._context.store,
            self._context.clock,
            refs,
            self._dirs.root,
            local=self._dirs.snapshots,
            check_interrupted=self._raise_if_interrupted,
            on_damaged=skip_damaged,
        )
        remove_tree(self._dirs.snapshots)
        for directory in (self._dirs.snapshots, self._dirs.checkpoint, self._dirs.output):
            directory.mkdir(parents=True, exist_ok=True)
        return restored

    def adopt_demo_state(self, record: JobRecord) -> bool:
        """Fetch the state that the Salad demo's own worker left, and return whether there was one.

        After the first checkpoint of ours, that file is only a copy of it and is not read.

        Raises:
            PermanentError: There is one, but not in the demo's form.
        """
        demo, has_committed = self._claimed.demo, any(attempt.commits for attempt in record.attempts)
        return demo is not None and not has_committed and demo.fetch_state(self._dirs.checkpoint)

    def _raise_if_interrupted(self) -> None:
        """Raise if there is a reason to stop; called between two files or ranges."""
        match self._claimed.events.get(0):
            case None:
                pass
            case LeaseLost(reason):
                raise LeaseLostError(reason)
            case DrainAsked():
                raise StagingInterrupted(Outcome(Trigger.RELEASE, "drained"))
            case CancelAsked():
                raise StagingInterrupted(Outcome(Trigger.CANCEL, "cancelled"))
            case other:
                raise RuntimeError(f"not expected before the workload runs: {other}")
