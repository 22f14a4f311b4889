"""ProcessRunner: a workload as a child process, in a process group of its own, under a process supervisor.

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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lifecycle.attempt.console_segments import KEPT, SEGMENT_BYTES, TAIL_BYTES, segments, tail
from lifecycle.errors import PermanentError
from lifecycle.ports.runner import Announced, Exit, JobDirs, Launch, Report, RunningWorkload, WorkloadRunner

SDK: Final = Path(__file__).resolve().parents[2] / "sdk"
SUPERVISOR: Final = Path(__file__).resolve().with_name("process_supervisor.py")
PROGRESS: Final = "progress"
ANNOUNCED: Final = "announced"
SAVE_REQUESTED: Final = "save-requested"
MAX_LINE_CHARS: Final = 1 << 16  # a longer line of output is searched for progress only at its end
CHECK_TIMEOUT_S: Final = 3600.0
KILL_WAIT_S: Final = 10.0
KILLED: Final = 128 + signal.SIGKILL
SECRET_PREFIXES: Final = ("AWS_", "CLOUDFLARE_")  # variables with the worker's credentials


class ProcessRunner:
    """Starts workloads as processes.

    Args:
        environment: Environment variables of this process, which workloads inherit.
        python: Interpreter that replaces `{python}` in a command and runs the process supervisor.
        withheld: Names of variables that workloads do not get, besides those with a prefix in SECRET_PREFIXES.
    """

    def __init__(
        self, *, environment: Mapping[str, str], python: str = sys.executable, withheld: Iterable[str] = ()
    ) -> None:
        self._inherited = environment
        self._python = python
        self._withheld = frozenset(withheld)

    def start(self, launch: Launch) -> RunningWorkload:
        """See `WorkloadRunner.start`."""
        dirs = launch.dirs
        command = self._command(launch, launch.workload.command)
        total = _total(launch)
        params = dirs.control / "params.json"
        params.write_text(json.dumps(dict(launch.params)))
        dirs.console.mkdir(exist_ok=True)
        console = (str(dirs.console), str(SEGMENT_BYTES), str(KEPT))
        supervisor = subprocess.Popen(  # noqa: S603 - starts a program from the image's workloads.toml
            [self._python, "-I", "-S", str(SUPERVISOR), *console, *command],
            cwd=dirs.root,
            env=self._environment(launch, params),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
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
        except (subprocess.TimeoutExpired, PermanentError) as error:
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
        path = os.pathsep.join((launch.workload.environment.get("PATH", ""), self._inherited.get("PATH", os.defpath)))
        if shutil.which(filled[0], path=path) is None:
            raise PermanentError(f"workload {launch.workload.name!r}: this image has no program {filled[0]!r}")
        return filled

    def _environment(self, launch: Launch, params: Path) -> dict[str, str]:
        dirs = launch.dirs
        inherited = {
            name: value
            for name, value in self._inherited.items()
            if not name.startswith(SECRET_PREFIXES) and name not in self._withheld
        }
        return {
            **inherited,
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
        supervisor: The process supervisor, which leads the process group.
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
        self._code: int | None = None
        self._stop_signal = signal.Signals[launch.workload.stop_signal]

    def poll(self) -> Report:
        """See `RunningWorkload.poll`."""
        code = self._exit_code()
        done, total = self._progress()
        return Report(
            done=done,
            total=self._total if total is None else total,
            announced=self._newest_announced(),
            exited=None if code is None else Exit(code, tail(self._dirs)),
        )

    def ask_to_save(self) -> None:
        """See `RunningWorkload.ask_to_save`."""
        (self._control / SAVE_REQUESTED).touch()

    def stop(self) -> None:
        """See `RunningWorkload.stop`."""
        self._signal(self._stop_signal)

    def kill(self) -> None:
        """See `RunningWorkload.kill`."""
        self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(KILL_WAIT_S)
        self._exit_code()
        if self._supervisor.stdin:
            self._supervisor.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._supervisor.poll() is None:  # its group id cannot be reused before it is reaped
            with suppress(ProcessLookupError):
                os.killpg(self._supervisor.pid, number)

    def _exit_code(self) -> int | None:
        """Return the exit code once the supervisor, which kills its group and so itself last, is gone; None before."""
        if self._code is None and self._supervisor.poll() is not None and self._supervisor.stdout:
            with self._supervisor.stdout as pipe:
                self._code = int(pipe.read() or KILLED)
        return self._code

    def _progress(self) -> tuple[int | None, int | None]:
        """Return the steps done and their total from the place where the program reports them."""
        if self._lines:
            return self._lines.read()
        progress = _read_progress(self._dirs.root / self._file if self._file else self._control / PROGRESS)
        return _whole(progress.get("done")), _whole(progress.get("total"))

    def _newest_announced(self) -> Announced | None:
        """Return the newest announced checkpoint, and remove those before it."""
        folder = self._control / ANNOUNCED
        with suppress(OSError):
            numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
            for older in numbers[:-1]:
                shutil.rmtree(folder / str(older), ignore_errors=True)
            if numbers:
                newest = numbers[-1]
                step = _whole(_read_json(folder / f"{newest}.json").get("step"))
                return Announced(newest, folder / str(newest), step)
        return None


class ProgressLines:
    """Progress found in the lines of a program's output.

    Args:
        dirs: The job's directories.
        pattern: Regular expression with a group `done` and optionally `total`.
    """

    def __init__(self, dirs: JobDirs, pattern: str) -> None:
        self._dirs = dirs
        self._pattern = re.compile(pattern)
        self._position = (0, 0)  # segment and offset of what was not read yet
        self._partial_line = ""
        self._found: tuple[int | None, int | None] = (None, None)

    def read(self) -> tuple[int | None, int | None]:
        """Read new output, and return the last progress found: steps done and total."""
        for number, path in segments(self._dirs):
            current, offset = self._position
            if number < current:
                continue
            with suppress(OSError), path.open("rb") as file:
                file.seek(offset if number == current else 0)
                new = file.read()
                self._position = (number, file.tell())
                self._search(new.decode(errors="replace"))
        return self._found

    def _search(self, new: str) -> None:
        *lines, partial = re.split(r"[\r\n]", self._partial_line + new)
        self._partial_line = partial[-MAX_LINE_CHARS:]
        for line in reversed(lines):
            if found := self._pattern.search(line):
                groups = found.groupdict()
                self._found = _number(groups.get("done")), _number(groups.get("total"))
                return


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _total(launch: Launch) -> int | None:
    """Return the number of steps given by the workload's `total`."""
    if launch.workload.total is None:
        return None
    text = _fill(launch.workload.total, launch.params, launch)
    total = _number(text)
    if total is None:
        raise PermanentError(f"workload {launch.workload.name!r}: total is {text!r:.40}, not a whole number")
    return total


def _read_progress(path: Path) -> dict[str, Any]:
    """Read progress in either form: a JSON object, or one or two whole numbers, done and total."""
    progress = _read_json(path)
    if not progress:
        with suppress(OSError):
            words = path.read_text(errors="replace").split()[:2]
            return dict(zip(("done", "total"), map(_number, words), strict=False))
    return progress


def _fill(word: str, values: Mapping[str, Any], launch: Launch) -> str:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
        missing = [name for name in fields if name not in values]
        if missing:
            raise PermanentError(f"workload {launch.workload.name!r} needs the parameter {missing[0]!r}")
        return word.format_map({name: str(values[name]) for name in fields})
    except (ValueError, IndexError, AttributeError) as error:
        raise PermanentError(f"workload {launch.workload.name!r}: {word!r} cannot be filled in: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file that the workload wrote; empty if absent or malformed."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


if TYPE_CHECKING:

    def _conforms(runner: ProcessRunner) -> WorkloadRunner:
        return runner
