"""ProcessRunner: a workload as a tree of processes in sessions of its own, under a process supervisor.

The process supervisor owns all of them, sends signals, and ends when nothing is left. Should it be killed, this process
inherits them, because it is a child subreaper too, and kills them. If both are killed at once, nothing can.

A workload reports through files in the control directory, whose form `sdk/holdfast` documents. Programs in any
language can write them, and nothing that a workload does can block the worker.
"""

import json
import os
import re
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adapters.process.exhaustion import disk_note, memory_note, oom_kills
from adapters.process.files_in_use import files_in_use
from adapters.process.inherited_environment import inherited_environment
from adapters.process.process_tree import become_subreaper, end_inherited
from adapters.process.progress import ProgressLines, number, read_json, read_progress, whole
from adapters.process.supervisor_reports import SupervisorReports
from lifecycle.attempt.console_segments import KEPT, SEGMENT_BYTES, TAIL_BYTES, tail
from lifecycle.checkpoint.tree import discard_tree, is_directory
from lifecycle.errors import MisfitError, PermanentError
from lifecycle.ports.runner import (
    KILL_WAIT_S,
    SETTLED,
    Announced,
    Exit,
    FilesInUse,
    Launch,
    Report,
    RunningWorkload,
    Workload,
    WorkloadRunner,
)

SDK: Final = Path(__file__).resolve().parents[2] / "sdk"
SUPERVISOR: Final = Path(__file__).resolve().with_name("process_supervisor.py")
PROGRESS: Final = "progress"
ANNOUNCED: Final = "announced"
NUMBER: Final = re.compile("0|[1-9][0-9]{0,14}")  # of an announced checkpoint
O_SAFE: Final = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # the program may have put a pipe or a link there
SAVE_REQUESTED: Final = "save-requested"
CHECK_TIMEOUT_S: Final = 3600.0
INHERITED_WAIT_S: Final = 1.0  # for processes that were told to die long ago
REPLY_S: Final = 5.0  # for the process supervisor to answer; it tries for up to a second to stop everything
FREEZE: Final = b"f"
THAW: Final = b"t"
STOP: Final = b"s"
KILL: Final = b"k"
MAX_ARGUMENT_BYTES: Final = (
    128 << 10
) - 1  # MAX_ARG_STRLEN less the NUL: https://man7.org/linux/man-pages/man2/execve.2.html
KILLED: Final = 128 + signal.SIGKILL


class ProcessRunner:
    """Starts workloads as processes.

    Args:
        environment: Environment variables of this process; workloads inherit those that are surely no secrets.
        python: Interpreter that replaces `{python}` in a command and runs the process supervisor.
        settings: Names of Holdfast's own settings, which workloads do not inherit either.
    """

    def __init__(
        self, *, environment: Mapping[str, str], python: str = sys.executable, settings: Iterable[str] = ()
    ) -> None:
        self._inherited = environment
        self._python = python
        self._settings = frozenset(settings)

    def expect_startable(self, launch: Launch) -> None:
        """See `WorkloadRunner.expect_startable`."""
        self._command(launch, launch.workload.command)
        _total(launch)

    def start(self, launch: Launch) -> RunningWorkload:
        """See `WorkloadRunner.start`."""
        dirs = launch.dirs
        command = self._command(launch, launch.workload.command)
        total = _total(launch)
        become_subreaper()
        params = dirs.control / "params.json"
        params.write_text(json.dumps(dict(launch.params)))
        dirs.console.mkdir(exist_ok=True)
        console = (str(dirs.console), str(SEGMENT_BYTES), str(KEPT))
        supervisor = subprocess.Popen(  # noqa: S603 - starts a program from the image's workloads.toml
            [self._python, "-I", "-S", str(SUPERVISOR), *console, *_limits(launch.workload), *command],
            cwd=dirs.root,
            env=self._environment(launch, params),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        return RunningProcess(supervisor, launch, total)

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        """See `WorkloadRunner.check`."""
        if launch.workload.check is None:
            return None
        try:
            done = subprocess.run(  # noqa: S603 - a program from the image's workloads.toml
                self._command(launch, launch.workload.check, snapshot=snapshot),
                cwd=snapshot,
                env=self._environment(launch, launch.dirs.control / "params.json"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"its check took longer than {CHECK_TIMEOUT_S / 3600:g} h"
        except PermanentError as error:
            return f"its check could not be run: {error}"
        output = done.stdout[-TAIL_BYTES:].decode(errors="replace").strip()
        return f"its check says {done.returncode}: {output}" if done.returncode else None

    def _command(self, launch: Launch, words: Sequence[str], snapshot: Path | None = None) -> list[str]:
        dirs = launch.dirs
        values = {
            **launch.params,
            "python": self._python,
            "sdk": str(SDK),
            "job": launch.job,
            "input_dir": str(dirs.input),
            "checkpoint_dir": str(dirs.checkpoint),
            "output_dir": str(dirs.output),
            "snapshot": str(snapshot or ""),
        }
        filled = [_fill(word, values, launch) for word in words]
        for word in filled:
            _ensure_passable(word, launch)
        path = os.pathsep.join((launch.workload.environment.get("PATH", ""), self._inherited.get("PATH", os.defpath)))
        if shutil.which(filled[0], path=path) is None:
            raise MisfitError(f"program {filled[0]!r}")
        return filled

    def _environment(self, launch: Launch, params: Path) -> dict[str, str]:
        dirs = launch.dirs
        inherited = inherited_environment(self._inherited, launch.workload.pass_environment, settings=self._settings)
        return {
            **inherited,
            "TMPDIR": str(dirs.temporary),
            **launch.workload.environment,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(SDK), inherited.get("PYTHONPATH")))),
            "HOLDFAST_JOB": launch.job,
            "HOLDFAST_ATTEMPT": str(launch.epoch),
            "HOLDFAST_RESUMED": str(int(launch.resumed)),
            "HOLDFAST_PARAMS": str(params),
            "HOLDFAST_INPUT_DIR": str(dirs.input),
            "HOLDFAST_CHECKPOINT_DIR": str(dirs.checkpoint),
            "HOLDFAST_OUTPUT_DIR": str(dirs.output),
            "HOLDFAST_CONTROL_DIR": str(dirs.control),
            "HOLDFAST_SAVING_INTERVAL": str(launch.saving_interval.total_seconds()),
        }


class RunningProcess:
    """A running workload.

    Args:
        supervisor: The process supervisor, parent of all.
        launch: The launch.
        total: Number of steps, if known beforehand.
    """

    def __init__(self, supervisor: subprocess.Popen[bytes], launch: Launch, total: int | None) -> None:
        self._supervisor = supervisor
        self._dirs = launch.dirs
        self._control = launch.dirs.control
        self._total = total
        self._file = launch.workload.progress_file
        pattern = launch.workload.progress_pattern
        self._lines = ProgressLines(launch.dirs, pattern) if pattern else None
        self._reports = SupervisorReports(supervisor)
        self._freezes = 0
        self._is_frozen = False
        self._oom_kills = oom_kills()
        self._has_killed = False
        self._exit: Exit | None = None

    def poll(self) -> Report:
        """See `RunningWorkload.poll`."""
        self._notice_end()
        done, total = self._progress()
        return Report(
            done=done,
            total=self._total if total is None else total,
            announced=self._newest_announced(),
            exited=self._exit,
        )

    def ask_to_save(self) -> None:
        """See `RunningWorkload.ask_to_save`."""
        with suppress(OSError):  # a program that removed its control directory does not listen
            os.close(os.open(self._control / SAVE_REQUESTED, os.O_WRONLY | os.O_CREAT | O_SAFE, 0o644))

    def files_in_use(self) -> FilesInUse:
        """See `RunningWorkload.files_in_use`."""
        return FilesInUse() if self._exit else files_in_use(self._supervisor.pid)

    def freeze(self) -> str | None:
        """See `RunningWorkload.freeze`."""
        if self._exit:
            return "it has ended"
        self._freezes += 1
        self._command(FREEZE)
        if not self._await(lambda: self._reports.freeze == self._freezes):
            self._command(THAW)
            return "the process supervisor does not answer"
        self._is_frozen = self._reports.obstacle is None
        return self._reports.obstacle

    def thaw(self) -> bool:
        """See `RunningWorkload.thaw`."""
        self._command(THAW)
        if self._exit or not self._is_frozen:
            return False
        self._is_frozen = False
        return self._await(lambda: self._reports.kept is not None) and self._reports.kept is True

    def _await(self, condition: Callable[[], bool]) -> bool:
        """Read reports until *condition* holds; return False if it does not in time, or never will."""
        deadline = time.monotonic() + REPLY_S
        while not condition():
            gone = self._supervisor.poll() is not None
            self._reports.wait(max(deadline - time.monotonic(), 0.0))
            if (gone or time.monotonic() >= deadline) and not condition():
                return False
        return True

    def stop(self) -> None:
        """See `RunningWorkload.stop`."""
        self._command(STOP)

    def kill(self, *, within_s: float = KILL_WAIT_S) -> None:
        """See `RunningWorkload.kill`."""
        if self._exit:
            return
        self._has_killed = True
        self._command(KILL)
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(within_s)
        if self._supervisor.poll() is None:  # a process hangs in the kernel, or the process supervisor was stopped
            self._supervisor.kill()
            self._supervisor.wait()
            self._notice_end(timeout_s=INHERITED_WAIT_S)
        self._notice_end()

    def _command(self, command: bytes) -> None:
        if self._supervisor.stdin:
            with suppress(BrokenPipeError, ValueError):  # gone, or closed
                self._supervisor.stdin.write(command)

    def _notice_end(self, *, timeout_s: float = KILL_WAIT_S) -> None:
        """Note the end once the process supervisor is gone, or says that a process is stuck.

        Args:
            timeout_s: How long processes that lost their supervisor may take to die.
        """
        if self._exit:
            return
        gone = self._supervisor.poll() is not None
        seen = self._reports.read()
        if not gone and not seen.stuck:
            return
        stuck = seen.stuck
        if self._supervisor.returncode:  # it was killed, so what it owned is ours now
            stuck = not end_inherited(since=self._reports.supervisor_start, timeout_s=timeout_s)
        code, clean = (
            (KILLED, False) if seen.code is None else (seen.code, seen.clean and not self._supervisor.returncode)
        )
        killed = code == KILLED and not self._has_killed
        notes = (memory_note(self._oom_kills, oom_kills(), killed=killed), disk_note(self._dirs.root))
        self._exit = Exit(
            code,
            tail(self._dirs),
            clean=clean,
            writing=seen.writing,
            stuck=stuck,
            notes=tuple(filter(None, notes)),
        )
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe and gone:
                pipe.close()

    def _progress(self) -> tuple[int | None, int | None]:
        """Return the steps done and their total from the place where the program reports them."""
        if self._lines:
            return self._lines.read()
        progress = read_progress(self._dirs.root / self._file if self._file else self._control / PROGRESS)
        return whole(progress.get("done")), whole(progress.get("total"))

    def _newest_announced(self) -> Announced | None:
        """Return the newest announced checkpoint, and remove those before it.

        Nothing counts but directories whose names are numbers as the SDK writes them; links are not followed.
        """
        folder = self._control / ANNOUNCED
        if not is_directory(self._control, ANNOUNCED):
            return None
        with suppress(OSError), os.scandir(folder) as entries:
            names = [entry.name for entry in entries if NUMBER.fullmatch(entry.name)]
            numbers = sorted(int(name) for name in names if is_directory(folder, name))
            for older in numbers[:-1]:
                discard_tree(folder / str(older))
            if numbers:
                newest = numbers[-1]
                step = whole(read_json(folder / f"{newest}.json").get("step"))
                return Announced(newest, folder / str(newest), step)
        return None


def _limits(workload: Workload) -> tuple[str, str, str, str]:
    """Return the process supervisor's arguments about stopping and freezing."""
    settled = [code for code, meaning in workload.exit_codes.items() if meaning in SETTLED]
    stop_signal = signal.Signals[workload.stop_signal]
    return (
        str(int(stop_signal)),
        workload.stop.value,
        ",".join(map(str, settled)),
        str(workload.freeze_limit.total_seconds()),
    )


def _total(launch: Launch) -> int | None:
    """Return the number of steps given by the workload's `total`."""
    if launch.workload.total is None:
        return None
    text = _fill(launch.workload.total, launch.params, launch)
    total = number(text)
    if total is None:
        raise PermanentError(f"workload {launch.workload.name!r}: total is {text!r:.40}, not a whole number up to 2^53")
    return total


def _ensure_passable(word: str, launch: Launch) -> None:
    """Check that *word* can be an argument of a process.

    Raises:
        PermanentError: It cannot, here or on any node.
    """
    try:
        size = len(os.fsencode(word))
    except UnicodeEncodeError as error:
        raise PermanentError(f"workload {launch.workload.name!r}: a parameter is no text: {error}") from error
    if "\0" in word:
        raise PermanentError(f"workload {launch.workload.name!r}: a parameter contains a NUL, which no argument can")
    if size > MAX_ARGUMENT_BYTES:
        raise PermanentError(
            f"workload {launch.workload.name!r}: an argument of {size} bytes is longer than {MAX_ARGUMENT_BYTES}: "
            "put large parameters into a file under input/"
        )


def _fill(word: str, values: Mapping[str, Any], launch: Launch) -> str:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
        missing = [name for name in fields if name not in values]
        if missing:
            raise PermanentError(f"workload {launch.workload.name!r} needs the parameter {missing[0]!r}")
        return word.format_map({name: str(values[name]) for name in fields})
    except (ValueError, IndexError, AttributeError) as error:
        raise PermanentError(f"workload {launch.workload.name!r}: {word!r} cannot be filled in: {error}") from error


if TYPE_CHECKING:

    def _conforms(runner: ProcessRunner) -> WorkloadRunner:
        return runner
