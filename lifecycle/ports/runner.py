"""WorkloadRunner: runs a job's program as something that can be watched, asked to save, stopped and killed.

The workload is never part of this process: no crash, hang or held interpreter lock of its can stop a heartbeat.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import field, frozen


class ExitMeaning(StrEnum):
    """What an exit code says."""

    DONE = "done"
    AGAIN = "again"
    INVALID = "invalid"
    FAILED = "failed"


EXIT_CODES: Final[Mapping[int, ExitMeaning]] = {0: ExitMeaning.DONE, 65: ExitMeaning.INVALID, 75: ExitMeaning.AGAIN}
"""What is meant where the workload does not say otherwise; 65 and 75 as sysexits.h has them."""


@frozen
class Workload:
    """What an image offers under a name.

    Attributes:
        name: As messages name it.
        command: Program and arguments; `{param}` placeholders are filled from the job's parameters.
        environment: Added to the child's.
        stop_signal: Name of the signal that means "save and leave".
        grace: How long it then has; None takes the worker's STOP_GRACE.
        needs_input: A job without input is invalid.
        checkpoint: Which files are its state, if it announces none: patterns of paths in the job's directory.
        growing: Which files are only ever appended to: patterns; they go with each checkpoint, at the length they have.
        quiet: How long nothing of its state may have changed, before a picture of it is taken.
        check: A program that says by its exit code whether a snapshot, which `{snapshot}` stands for, is whole.
        saving_interval: How often to save; None takes what the job says, or the worker's STATE_SAVING_INTERVAL.
        exit_codes: What its exit codes mean.
        wall_time: How long it may run in all, over every attempt.
        silence: How long it may run without a step, before it is taken to hang.
        progress_file: Where it says how far it is, in the job's directory; None: it says so through the SDK.
        progress_pattern: A regular expression that finds it in a line of its output, in a group called `done`, and
            perhaps `total`.
        total: How many steps there are, if it does not say; may be a `{param}`.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(factory=dict)
    stop_signal: str = "SIGTERM"
    grace: timedelta | None = None
    needs_input: bool = False
    checkpoint: tuple[str, ...] = ("checkpoint/**",)
    growing: tuple[str, ...] = ()
    quiet: timedelta = timedelta(seconds=1)
    check: tuple[str, ...] | None = None
    saving_interval: timedelta | None = None
    exit_codes: Mapping[int, ExitMeaning] = field(factory=lambda: dict(EXIT_CODES))
    wall_time: timedelta | None = None
    silence: timedelta | None = None
    progress_file: str | None = None
    progress_pattern: str | None = None
    total: str | None = None

    def meaning(self, code: int) -> ExitMeaning:
        """What it means that it ended with *code*."""
        return self.exit_codes.get(code, ExitMeaning.FAILED)


@frozen
class JobDirs:
    """A job's directories on this node; `root` is the child's working directory and holds the others."""

    root: Path

    @property
    def input(self) -> Path:
        """What the job was given."""
        return self.root / "input"

    @property
    def checkpoint(self) -> Path:
        """What lies here is the workload's state; filled before a resumed run starts."""
        return self.root / "checkpoint"

    @property
    def output(self) -> Path:
        """What lies here when it exits 0 is the result."""
        return self.root / "output"

    @property
    def control(self) -> Path:
        """Talk between the worker and the workload's SDK: progress, announced checkpoints, requests."""
        return self.root / "control"

    @property
    def console(self) -> Path:
        """What it writes to stdout and stderr, in segments."""
        return self.root / "console"

    @property
    def snapshots(self) -> Path:
        """Snapshots waiting to be uploaded, and the last committed one."""
        return self.root / "snapshots"


@frozen
class Launch:
    """One start of a workload.

    Attributes:
        workload: What to run.
        job: The job id.
        epoch: The attempt's number.
        params: The job's parameters (JSON values).
        resumed: Whether `dirs.checkpoint` holds a committed checkpoint.
        saving_interval: How often the workload should save.
        dirs: Where.
    """

    workload: Workload
    job: str
    epoch: int
    params: Mapping[str, Any]
    resumed: bool
    saving_interval: timedelta
    dirs: JobDirs


@frozen
class Announced:
    """A consistent set of files that the workload has finished writing, in a directory that is ours to move.

    Attributes:
        number: Rises with each announcement of one run.
        path: The directory.
        step: How far the workload was, if it said.
    """

    number: int
    path: Path
    step: int | None


@frozen
class Exit:
    """How a workload ended.

    Attributes:
        code: Its exit code; 128 + n if signal n ended it.
        tail: The end of what it wrote to stderr, a few KiB at most.
    """

    code: int
    tail: str


@frozen
class Report:
    """What is known of a running workload now; None where nothing is.

    Attributes:
        done: Steps done, as last reported.
        total: Steps in all, as last reported.
        announced: The newest announced checkpoint that has not been taken (moved away) yet.
        exited: How it ended; the last report of a run has this.
    """

    done: int | None = None
    total: int | None = None
    announced: Announced | None = None
    exited: Exit | None = None


class RunningWorkload(Protocol):
    """One running workload: the process and everything that it started."""

    def poll(self) -> Report:
        """Look, without waiting."""

    def ask_to_save(self) -> None:
        """Ask for a checkpoint soon; a workload that does not listen is not harmed."""

    def stop(self) -> None:
        """Tell it to save and leave (its stop signal, to the whole process group). Safe to repeat."""

    def kill(self) -> None:
        """End the whole process group now and wait until it is gone. Safe to repeat."""


class WorkloadRunner(Protocol):
    """Starts workloads."""

    def start(self, launch: Launch) -> RunningWorkload:
        """Start it; returns as soon as it runs.

        Raises:
            PermanentError: It cannot be started here: no such program, a placeholder without a parameter.
        """

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        """Let the workload's own check look at a snapshot, a directory laid out like the job's; may take long.

        Returns:
            What is wrong with it; None if nothing is, or if the workload has no check.
        """
