"""Port for running a job's program: started, observed, asked to save, stopped and killed.

A workload never runs inside the worker's process. It may crash, hang or hold an interpreter lock; the worker's
heartbeat goes on.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import field, frozen


class ExitMeaning(StrEnum):
    """Meaning of an exit code."""

    DONE = "done"
    """The job is completed."""
    AGAIN = "again"
    """State is saved and work remains; run it again."""
    INVALID = "invalid"
    """The job can never succeed, here or anywhere."""
    FAILED = "failed"
    """This run failed; another one may succeed."""


SETTLED: Final = frozenset({ExitMeaning.DONE, ExitMeaning.AGAIN})
"""Meanings of the exit codes of a program that has saved what it had to."""
KILL_WAIT_S: Final = 10.0
"""A process that is still there so long after SIGKILL hangs in the kernel."""


class StopScope(StrEnum):
    """Processes that get the stop signal."""

    PROGRAM = "program"
    """The first process. If that is a shell or an init shim, also the program that it runs."""
    LEADER = "leader"
    """The first process alone, even if it is a shell: it passes the signal on by itself."""
    GROUP = "group"
    """Every process of the job."""


EXIT_CODES: Final[Mapping[int, ExitMeaning]] = {0: ExitMeaning.DONE, 65: ExitMeaning.INVALID, 75: ExitMeaning.AGAIN}
"""Default meanings of exit codes. Any other code means FAILED.

65 is EX_DATAERR and 75 EX_TEMPFAIL of sysexits.h (https://man7.org/linux/man-pages/man3/sysexits.h.3head.html).
"""


@frozen
class PassedVariables:
    """The environment variables that a workload asks to inherit.

    Attributes:
        names: Their names; `*` stands for any characters.
        is_strict: It inherits no others; otherwise, also those that are surely no secrets.
    """

    names: tuple[str, ...] = ()
    is_strict: bool = False


@frozen
class Workload:
    """A program that the image offers, as described in its workloads file.

    Patterns are matched against paths relative to the job's directory: see `lifecycle.checkpoint.patterns`.

    Attributes:
        name: Name by which job messages refer to it.
        command: Program and arguments. `{param}` stands for a parameter of the job.
        environment: Environment variables to add.
        pass_environment: Variables that it inherits although they may be secrets, or the only ones that it inherits.
        stop_signal: Name of the signal that means "save and exit".
        stop: Processes that get that signal.
        grace: Time to exit after that signal; None uses the worker's STOP_GRACE.
        needs_input: Whether a job without input files is invalid.
        checkpoint: Patterns of the files that make up the state of a program that announces no checkpoints.
        in_place: Patterns of files that are written to in place, and are therefore copied and not linked.
        growing: Patterns of files that are only ever appended to. They are part of each checkpoint, up to the length
            that they have when it is captured.
        quiet: How long the state must not have changed before it is captured.
        freeze: Whether the program may be stopped for a moment to capture a state that is never quiet.
        freeze_limit: How long it may be stopped.
        check: Command that exits with 0 if the snapshot in directory `{snapshot}` is usable; None accepts any.
        saving_interval: Time between checkpoints; None uses the worker's STATE_SAVING_INTERVAL. A job may override it.
        keep_every: Keep one checkpoint in so many for good, as a milestone; 0 for none.
        exit_codes: Meaning of each exit code.
        wall_time: Limit on the running time over all attempts; None for no limit.
        silence: Time without progress after which it counts as hanging; None for no limit.
        progress_file: File in the job's directory that holds the progress; None if the SDK reports it.
        progress_pattern: Regular expression that extracts the progress from a line of the console, with the group
            `done` and optionally `total`.
        total: Number of steps, for a program that does not report it; may be a `{param}`.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(factory=dict)
    pass_environment: PassedVariables = field(factory=PassedVariables)
    stop_signal: str = "SIGTERM"
    stop: StopScope = StopScope.PROGRAM
    grace: timedelta | None = None
    needs_input: bool = False
    checkpoint: tuple[str, ...] = ("checkpoint/**",)
    in_place: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()
    quiet: timedelta = timedelta(seconds=1)
    freeze: bool = True
    freeze_limit: timedelta = timedelta(seconds=5)
    check: tuple[str, ...] | None = None
    saving_interval: timedelta | None = None
    keep_every: int = 0
    exit_codes: Mapping[int, ExitMeaning] = field(factory=lambda: dict(EXIT_CODES))
    wall_time: timedelta | None = None
    silence: timedelta | None = None
    progress_file: str | None = None
    progress_pattern: str | None = None
    total: str | None = None

    def meaning(self, code: int) -> ExitMeaning:
        """Return the meaning of exit code *code*."""
        return self.exit_codes.get(code, ExitMeaning.FAILED)


@frozen
class JobDirs:
    """A job's directories on this node.

    Attributes:
        root: The program's working directory, which holds the others, but for `temporary`.
    """

    root: Path

    @property
    def input(self) -> Path:
        """Input files of the job."""
        return self.root / "input"

    @property
    def checkpoint(self) -> Path:
        """State of the workload; filled before a resumed run starts."""
        return self.root / "checkpoint"

    @property
    def output(self) -> Path:
        """Outputs; the result of the job once the workload has exited with DONE."""
        return self.root / "output"

    @property
    def control(self) -> Path:
        """Files through which the worker and the SDK talk: progress, announced checkpoints, requests to save."""
        return self.root / "control"

    @property
    def console(self) -> Path:
        """Segments of the workload's stdout and stderr."""
        return self.root / "console"

    @property
    def temporary(self) -> Path:
        """Temporary files of this attempt. The path is short, since that of a Unix socket has 107 bytes at most."""
        return self.root.parent / ".tmp"

    @property
    def snapshots(self) -> Path:
        """Snapshots that wait to be uploaded, and the last one committed."""
        return self.root / "snapshots"


@frozen
class Launch:
    """Everything needed to start a workload.

    Attributes:
        workload: The program.
        job: The job's id.
        epoch: The attempt's number.
        params: The job's parameters (JSON values).
        resumed: Whether `dirs.checkpoint` holds a restored checkpoint.
        saving_interval: How often the workload should save.
        dirs: The job's directories.
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
    """A checkpoint that the workload has finished writing, and will not touch again.

    Attributes:
        number: Increases with each announcement of one run.
        path: Directory that holds it; the worker may move it away.
        step: Number of steps done when it was written; None if the workload did not say.
    """

    number: int
    path: Path
    step: int | None


@frozen
class FilesInUse:
    """Files that the processes of a workload may be changing at this moment.

    A file is named by its device and inode, and by its path if the numbers may not be those that `stat` shows.

    Attributes:
        mapped: Files mapped into memory so that they can be written to. Such writes do not change a file's times.
        writing: Files open for writing, other than for appending.
        appending: Files open for appending.
        unreadable: Whether a process could not be examined: then any file may be mapped, and open.
    """

    mapped: frozenset[tuple[int, int] | str] = frozenset()
    writing: frozenset[tuple[int, int] | str] = frozenset()
    appending: frozenset[tuple[int, int] | str] = frozenset()
    unreadable: bool = False

    def is_mapped(self, path: Path, device: int, inode: int) -> bool:
        """Return whether a file may be written to through memory."""
        return self.unreadable or (device, inode) in self.mapped or str(path) in self.mapped

    def is_writing(self, path: Path, device: int, inode: int) -> bool:
        """Return whether a file may be open for writing, other than for appending."""
        return self.unreadable or (device, inode) in self.writing or str(path) in self.writing

    def is_used(self, path: Path, device: int, inode: int) -> bool:
        """Return whether a file may change, in any of these ways, as soon as a process runs."""
        used = self.mapped | self.writing | self.appending
        return self.unreadable or (device, inode) in used or str(path) in used


@frozen
class Exit:
    """The end of a workload: of its first process and, unless `stuck`, of every process that it has started.

    Attributes:
        code: Exit code of the first process, or 128 + n if signal n ended it.
        tail: The end of its console output, at most a few KiB.
        clean: Whether every process that may have been saving exited by itself, and none had to be killed. The first
            process counts unless it is a shell: then the program that the shell ran counts.
        writing: Whether a process of a stopped workload was killed while it had a file of the state open for writing.
        notes: Signs of what ended it besides the code, for people: the kernel killed it for want of memory, or the disk
            is full.
        stuck: Whether a process is still there long after SIGKILL. It hangs in the kernel, as with a broken driver, and
            no other workload should run beside it.
    """

    code: int
    tail: str
    clean: bool = True
    writing: bool = False
    stuck: bool = False
    notes: tuple[str, ...] = ()


@frozen
class Report:
    """State of a running workload, as far as known.

    Attributes:
        done: Number of steps done, as last reported.
        total: Number of steps in all, as last reported.
        announced: The newest announced checkpoint that the worker has not moved away yet.
        exited: Its end; set in the last report of a run.
    """

    done: int | None = None
    total: int | None = None
    announced: Announced | None = None
    exited: Exit | None = None


class RunningWorkload(Protocol):
    """A running workload: its first process and every process that it has started, daemons included."""

    def poll(self) -> Report:
        """Return its present state. Safe to repeat, also after the end.

        The end is reported once every process is gone. Those that the first process leaves behind get SIGTERM and two
        seconds, then SIGKILL; but after `stop` they keep running, until `kill`, if the first process exits with a code
        that does not mean *saved* or *done*.
        """

    def ask_to_save(self) -> None:
        """Ask for a checkpoint soon. A workload that does not listen is not affected. Safe to repeat."""

    def files_in_use(self) -> FilesInUse:
        """Return what its processes may be changing at this moment; after its end, nothing. Safe to repeat."""

    def freeze(self) -> str | None:
        """Stop every process, with all its threads, until `thaw`; for the workload's `freeze_limit` at most.

        A stop or a kill ends the freeze. Processes that were stopped already stay so afterwards.

        Returns:
            None if every process is stopped; otherwise why that is not possible now, and all of them run.
        """

    def thaw(self) -> bool:
        """Continue what `freeze` has stopped. Safe to repeat.

        Returns:
            Whether every process was stopped from `freeze` until this call.
        """

    def stop(self) -> None:
        """Ask the program to save and exit, by one stop signal to each process in the workload's `StopScope`.

        What the first process leaves behind when it dies of the signal gets it then. Safe to repeat: only the first
        call counts.
        """

    def kill(self, *, within_s: float = KILL_WAIT_S) -> None:
        """Kill every process and wait until all are gone. Safe to repeat, also after the end.

        Afterwards `poll` reports the end, with `Exit.stuck` if a process is still there.

        Args:
            within_s: How long to wait, in seconds.
        """


class WorkloadRunner(Protocol):
    """Starts workloads."""

    def expect_startable(self, launch: Launch) -> None:
        """Check that `start` would find what it needs. Starts nothing, needs none of the job's directories.

        Raises:
            MisfitError: The program does not exist on this image.
            PermanentError: No image can start it: the command contains a placeholder for which the job has no
                parameter, or a parameter that no process can be given.
        """

    def start(self, launch: Launch) -> RunningWorkload:
        """Start a workload, and return as soon as it runs. Each call starts another.

        Raises:
            MisfitError, PermanentError: See `expect_startable`.
            OSError: This node cannot start it.
        """

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        """Run the workload's own check on a snapshot. May take long. Safe to repeat.

        Args:
            launch: The launch that the snapshot belongs to.
            snapshot: Directory laid out like the job's.

        Returns:
            Why the snapshot is unusable; None if it is usable, or if the workload has no check.
        """
