"""FakeRunner: workloads that live in the test's own process and on its own clock, and keep to the SDK's contract.

A fake job adds up the numbers of its `input.txt` like `series-sum`, each step lasting *step_s* of the clock's time; it
announces a checkpoint every saving interval, goes on from what it finds, and answers `stop` by saving and leaving with
75. *script* can make any step end differently. A job with the parameter `silent` announces nothing: like a program that
knows of no worker it saves every few steps, over what it saved before. One with `patient` saves only when it is asked.

Its state is of every kind that there is: `state.txt`, written anew; `trail.bin`, appended to; `table.bin`, changed in
place; and, if the workload has growing outputs, `output/steps.log`. It refuses to go on from files that do not fit
together.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lifecycle.ports.clock import Clock
from lifecycle.ports.runner import Announced, Exit, Launch, Report, RunningWorkload, WorkloadRunner

SAVED: Final = 75
INVALID: Final = 65
KILLED: Final = 137
SILENT_STEPS: Final = 4
TRAIL_BYTES: Final = 8
TABLE_PRIMES: Final = (2, 7, 13, 29, 31, 53, 89, 97)

Script = Callable[[Launch, int], int | None]
"""Given the launch and a step about to be done: the exit code to end with instead, or None to go on."""


class FakeRunner:
    """See `lifecycle.ports.runner.WorkloadRunner`.

    Args:
        clock: Whose time the steps take.
        step_s: How long one takes.
        script: What goes wrong.
    """

    def __init__(self, clock: Clock, *, step_s: float = 1.0, script: Script | None = None) -> None:
        self.started: list[Launch] = []
        """Every launch, oldest first."""
        self._clock = clock
        self._step_s = step_s
        self._script = script or (lambda *_: None)

    def start(self, launch: Launch) -> RunningWorkload:
        """See the port."""
        dirs = launch.dirs
        missing = [
            path for path in (dirs.input, dirs.checkpoint, dirs.output, dirs.control, dirs.console) if not path.is_dir()
        ]
        if missing:
            raise AssertionError(f"{missing[0]} is not there")
        self.started.append(launch)
        return FakeWorkload(self._clock, self._step_s, self._script, launch)

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        """See the port. Nothing is ever wrong."""
        del launch, snapshot
        return None


class FakeWorkload:
    """See `lifecycle.ports.runner.RunningWorkload`. It gets as far as the clock says whenever it is looked at."""

    def __init__(self, clock: Clock, step_s: float, script: Script, launch: Launch) -> None:
        self._clock = clock
        self._step_s = step_s
        self._script = script
        self._launch = launch
        self._exited: Exit | None = None
        self._announced: Announced | None = None
        self._number = 0
        self._began = self._saved_at = clock.monotonic()
        self._save_asked = False
        self._silent, self._patient = (bool(launch.params.get(name)) for name in ("silent", "patient"))
        self._load()
        self._saved = self._step

    def poll(self) -> Report:
        """See the port."""
        while self._exited is None and self._clock.monotonic() - self._began >= self._step_s:
            self._began += self._step_s
            self._do_step()
        taken = self._announced is not None and not self._announced.path.exists()
        if taken:
            self._announced = None
        done = (self._saved if self._silent else self._step) - self._start + 1
        return Report(done=done, total=self._total, announced=self._announced, exited=self._exited)

    def ask_to_save(self) -> None:
        """See the port."""
        self._save_asked = True

    def stop(self) -> None:
        """See the port."""
        self.poll()
        if self._exited is None:
            if not self._patient:
                self._save()
            self._exited = Exit(SAVED, "")

    def kill(self) -> None:
        """See the port."""
        if self._exited is None:
            self._exited = Exit(KILLED, "")

    def _load(self) -> None:
        self._start, self._end = 1, 0
        source = self._launch.dirs.input / "input.txt"
        try:
            self._start, self._end = (int(line) for line in source.read_text().split())
        except (OSError, ValueError):
            self._exited = Exit(INVALID, "input.txt: is not two whole numbers")
        self._step, self._sum = self._start - 1, 0
        self._total = self._end - self._start + 1
        if self._launch.resumed:
            self._resume()
        if self._log:
            self._log.write_bytes(trail(self._step))

    @property
    def _log(self) -> Path | None:
        return self._launch.dirs.output / "steps.log" if self._launch.workload.growing else None

    def _resume(self) -> None:
        state = self._launch.dirs.checkpoint
        *_, self._step, self._sum = (int(line) for line in (state / "state.txt").read_text().split())
        for path, wanted in ((state / "trail.bin", trail(self._step)), (state / "table.bin", table(self._step))):
            if path.exists() and path.read_bytes() != wanted:  # the demo's own worker leaves only state.txt
                raise AssertionError(f"{path} does not fit to step {self._step}")
        if self._log and not self._log.read_bytes().startswith(trail(self._step)):
            raise AssertionError(f"{self._log} does not reach to step {self._step}")

    def _do_step(self) -> None:
        if self._step < self._end:
            code = self._script(self._launch, self._step + 1)
            if code is not None:
                self._exited = Exit(code, f"scripted to end at step {self._step + 1}")
                return
            self._step += 1
            self._sum += self._step
            if self._log:
                with self._log.open("ab") as file:
                    file.write(trail(self._step, since=self._step - 1))
        if self._step >= self._end:
            (self._launch.dirs.output / "output.txt").write_text(f"{self._sum}\n")
            self._exited = Exit(0, "")
        elif self._is_due():
            self._save()

    def _is_due(self) -> bool:
        if self._silent:
            return self._step - self._saved >= SILENT_STEPS
        if self._patient:
            return self._save_asked
        return self._save_asked or self._began - self._saved_at >= self._launch.saving_interval.total_seconds()

    def _save(self) -> None:
        if self._silent:
            self._overwrite(self._launch.dirs.checkpoint)
        else:
            self._announce()
        self._saved = self._step

    def _overwrite(self, folder: Path) -> None:
        """Save as programs do: by renaming, by appending, and in place; each file's time is that of the clock."""
        part = folder / "state.txt.part"
        part.write_text(self._state())
        part.replace(folder / "state.txt")
        with (folder / "trail.bin").open("ab") as file:
            file.write(trail(self._step, since=file.tell() // TRAIL_BYTES))
        with os.fdopen(os.open(folder / "table.bin", os.O_RDWR | os.O_CREAT), "r+b") as file:
            file.write(table(self._step))
        now_ns = int(self._clock.monotonic() * 1e9)
        for name in ("state.txt", "trail.bin", "table.bin"):
            os.utime(folder / name, ns=(now_ns, now_ns))

    def _announce(self) -> None:
        if self._announced:
            shutil.rmtree(self._announced.path, ignore_errors=True)
        self._number += 1
        path = self._launch.dirs.control / "announced" / str(self._number)
        path.mkdir(parents=True)
        (path / "state.txt").write_text(self._state())
        (path / "trail.bin").write_bytes(trail(self._step))
        (path / "table.bin").write_bytes(table(self._step))
        self._announced = Announced(self._number, path, self._step - self._start + 1)
        self._saved_at = self._began
        self._save_asked = False

    def _state(self) -> str:
        return f"{self._start}\n{self._end}\n{self._step}\n{self._sum}\n"


def trail(step: int, *, since: int = 0) -> bytes:
    """What a fake job has appended up to *step*, *since* another."""
    return b"".join(number.to_bytes(TRAIL_BYTES) for number in range(since + 1, step + 1))


def table(step: int) -> bytes:
    """What stands in a fake job's table at *step*: the last multiple of each of some primes."""
    return b"".join((step - step % prime).to_bytes(32) for prime in TABLE_PRIMES)


if TYPE_CHECKING:

    def _conforms(runner: FakeRunner) -> WorkloadRunner:
        return runner
