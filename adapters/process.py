"""ProcessRunner: a workload as a child process, in a process group of its own, behind a guard.

What the workload says comes by files in the control directory (`sdk/holdfast.py` tells their form), so any language can
say it, and nothing that it does can hold the worker up.
"""

import json
import os
import shutil
import signal
import string
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from lifecycle.errors import PermanentError
from lifecycle.journal import CONSOLE
from lifecycle.ports.runner import Announced, Exit, Launch, Report, RunningWorkload, WorkloadRunner

SDK: Final = Path(__file__).resolve().parents[1] / "sdk"
GUARD: Final = Path(__file__).resolve().with_name("guard.py")
EXIT: Final = "exit"
PROGRESS: Final = "progress"
ANNOUNCED: Final = "announced"
SAVE_REQUESTED: Final = "save-requested"
TAIL_BYTES: Final = 4096
KILL_WAIT_S: Final = 10.0
KILLED: Final = 128 + signal.SIGKILL
SECRET: Final = ("AWS_", "CLOUDFLARE_")  # beginnings of the names of settings that are the worker's alone


class ProcessRunner:
    """See `lifecycle.ports.runner.WorkloadRunner`.

    Args:
        python: The interpreter that `{python}` in a command stands for, and that the guard runs in.
    """

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python

    def start(self, launch: Launch) -> RunningWorkload:
        """See the port."""
        dirs = launch.dirs
        command = self._command(launch)
        params = dirs.control / "params.json"
        params.write_text(json.dumps(dict(launch.params)))
        guarded = [self._python, "-I", "-S", str(GUARD), str(dirs.control / EXIT), *command]
        with (dirs.root / CONSOLE).open("wb") as console:
            guard = subprocess.Popen(  # noqa: S603 - the guard, which starts a program of the image's own workloads.toml
                guarded,
                cwd=dirs.root,
                env=_environment(launch, params),
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        return RunningProcess(guard, launch)

    def _command(self, launch: Launch) -> list[str]:
        values = {**launch.params, "python": self._python, "sdk": str(SDK)}
        words = [_fill(word, values, launch) for word in launch.workload.command]
        path = os.pathsep.join((launch.workload.environment.get("PATH", ""), os.environ.get("PATH", os.defpath)))
        if shutil.which(words[0], path=path) is None:
            raise PermanentError(f"workload {launch.workload.name!r}: there is no program {words[0]!r} on this image")
        return words


class RunningProcess:
    """See `lifecycle.ports.runner.RunningWorkload`.

    Args:
        guard: The guard, which leads the process group.
        launch: What was started.
    """

    def __init__(self, guard: subprocess.Popen[bytes], launch: Launch) -> None:
        self._guard = guard
        self._control = launch.dirs.control
        self._console = launch.dirs.root / CONSOLE
        self._stop_signal = signal.Signals[launch.workload.stop_signal]

    def poll(self) -> Report:
        """See the port."""
        gone = self._guard.poll() is not None
        progress = _read_json(self._control / PROGRESS)
        return Report(
            done=_whole(progress.get("done")),
            total=_whole(progress.get("total")),
            announced=self._newest(),
            exited=self._exit(gone=gone),
        )

    def ask_to_save(self) -> None:
        """See the port."""
        (self._control / SAVE_REQUESTED).touch()

    def stop(self) -> None:
        """See the port."""
        self._signal(self._stop_signal)

    def kill(self) -> None:
        """See the port."""
        self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(KILL_WAIT_S)
        if self._guard.stdin:
            self._guard.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._guard.poll() is None:  # until it is reaped, the group's number is nobody else's
            with suppress(ProcessLookupError):
                os.killpg(self._guard.pid, number)

    def _exit(self, *, gone: bool) -> Exit | None:
        if not gone:  # the guard kills the group and itself last, so nothing of it runs on once it is gone
            return None
        code = _whole(_read_json(self._control / EXIT).get("code"))
        return Exit(KILLED if code is None else code, self._tail())

    def _tail(self) -> str:
        with suppress(OSError), self._console.open("rb") as file:
            return _last_bytes(file).decode(errors="replace").strip()
        return ""

    def _newest(self) -> Announced | None:
        folder = self._control / ANNOUNCED
        with suppress(OSError):
            numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
            for passed in numbers[:-1]:
                shutil.rmtree(folder / str(passed), ignore_errors=True)
            if numbers:
                newest = numbers[-1]
                step = _whole(_read_json(folder / f"{newest}.json").get("step"))
                return Announced(newest, folder / str(newest), step)
        return None


def _fill(word: str, values: Mapping[str, Any], launch: Launch) -> str:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
        missing = [name for name in fields if name not in values]
        if missing:
            raise PermanentError(f"workload {launch.workload.name!r} needs the parameter {missing[0]!r}")
        return word.format_map({name: str(values[name]) for name in fields})
    except (ValueError, IndexError, AttributeError) as error:
        raise PermanentError(f"workload {launch.workload.name!r}: {word!r} cannot be filled in: {error}") from error


def _environment(launch: Launch, params: Path) -> dict[str, str]:
    dirs = launch.dirs
    ours = {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}
    return {
        **ours,
        **launch.workload.environment,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SDK), ours.get("PYTHONPATH")))),
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


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that the workload wrote; empty if there is none, or something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


def _last_bytes(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - TAIL_BYTES, 0))
    return file.read()


if TYPE_CHECKING:

    def _proof(runner: ProcessRunner) -> WorkloadRunner:
        return runner
