"""The job that this process runs: its directories, its parameters, its progress and its checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

TYPE_CHECKING = False  # without importing typing, which slows every program's start
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType
    from typing import Any, NoReturn

SAVED_RUN_ME_AGAIN = 75
DEFAULT_SAVING_INTERVAL_S = 600.0


def job() -> Job:
    """Return the job that this process runs.

    In the main thread this also handles SIGTERM, on which `should_stop` becomes true. A handler that was installed
    before is still called.
    """
    return Job(os.environ)


class Job:
    """One job, seen from inside.

    Attributes:
        id: The job's id.
        attempt: The number of this attempt, from 1.
        resumed: True if `checkpoint_dir` holds the last committed checkpoint.
        params: The job's parameters, JSON values by name.
        input_dir: The directory of the input.
        checkpoint_dir: The directory of the restored checkpoint.
        output_dir: The directory for results: its contents when the program exits with 0 are the job's outputs.
    """

    id: str
    attempt: int
    resumed: bool
    params: dict[str, Any]
    input_dir: str
    checkpoint_dir: str
    output_dir: str

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the environment that the worker made, or make one in the current folder."""
        here = os.getcwd()
        self.id = environ.get("HOLDFAST_JOB", "local")
        self.attempt = int(environ.get("HOLDFAST_ATTEMPT", "1"))
        self.input_dir = environ.get("HOLDFAST_INPUT_DIR", os.path.join(here, "input"))
        self.checkpoint_dir = environ.get("HOLDFAST_CHECKPOINT_DIR", os.path.join(here, "checkpoint"))
        self.output_dir = environ.get("HOLDFAST_OUTPUT_DIR", os.path.join(here, "output"))
        self._control = environ.get("HOLDFAST_CONTROL_DIR")
        self._interval_s = float(environ.get("HOLDFAST_SAVING_INTERVAL", DEFAULT_SAVING_INTERVAL_S))
        for directory in (self.checkpoint_dir, self.output_dir):
            os.makedirs(directory, exist_ok=True)
        resumed = environ.get("HOLDFAST_RESUMED")
        self.resumed = bool(os.listdir(self.checkpoint_dir)) if resumed is None else resumed == "1"
        self.params = _read_json(environ.get("HOLDFAST_PARAMS", os.path.join(here, "params.json")))
        self._saved_at = time.monotonic()
        self._stopping = False
        self._listen()

    @property
    def should_stop(self) -> bool:
        """True once the worker has asked the program to save and leave."""
        return self._stopping

    def progress(self, done: int, total: int | None = None) -> None:
        """Report that *done* steps of *total* are done. This writes a small file: ten times a second is plenty."""
        if self._control:
            _write_json(self._control, "progress", {"done": done, "total": total})

    def checkpoint_due(self) -> bool:
        """Return True when it is time to save: the saving interval is over, or the worker has asked."""
        return time.monotonic() - self._saved_at >= self._interval_s or (
            self._control is not None and os.path.exists(os.path.join(self._control, "save-requested"))
        )

    @contextlib.contextmanager
    def checkpoint(self, step: int | None = None) -> Iterator[str]:
        """Save a whole checkpoint: write every file of it into the directory that this yields.

        The checkpoint is announced when the block ends. If the block raises, nothing is announced.
        """
        parent = self._control or os.path.dirname(os.path.abspath(self.checkpoint_dir))
        staging = tempfile.mkdtemp(prefix="staging-", dir=parent)
        try:
            yield staging
            if self._control:
                self._announce(self._control, staging, step)
            else:
                self._replace_local(staging)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._saved_at = time.monotonic()

    def leave(self) -> NoReturn:
        """Exit with the code that means: saved, run me again."""
        sys.exit(SAVED_RUN_ME_AGAIN)

    def _announce(self, control: str, staging: str, step: int | None) -> None:
        announced = os.path.join(control, "announced")
        os.makedirs(announced, exist_ok=True)
        numbers = [int(name[:-5]) for name in os.listdir(announced) if name.endswith(".json") and name[:-5].isdigit()]
        number = max(numbers, default=0) + 1
        _write_json(announced, f"{number}.json", {"step": step})
        os.rename(staging, os.path.join(announced, str(number)))
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(control, "save-requested"))

    def _replace_local(self, staging: str) -> None:
        aside = staging + ".old"
        os.rename(self.checkpoint_dir, aside)
        os.rename(staging, self.checkpoint_dir)
        shutil.rmtree(aside, ignore_errors=True)

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, stop)


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            value: dict[str, Any] = json.load(file)
            return value
    except FileNotFoundError:
        return {}


def _write_json(directory: str, name: str, value: Mapping[str, Any]) -> None:
    part = os.path.join(directory, f".{name}.{os.getpid()}")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(part, os.path.join(directory, name))
