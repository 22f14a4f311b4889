"""FakeRunner: workloads that run in the test's process and on its clock, and keep the SDK's contract.

A fake job sums the numbers given in `input.txt`, as `series-sum` does; each step lasts *step_s* of the clock's time. It
announces a checkpoint every saving interval, resumes from the checkpoint that it finds, and on `stop` saves and exits
with 75. *script* can make any step exit differently. With the parameter `silent`, a job announces nothing: like a
program that knows of no worker, it overwrites its saved state every few steps. With `patient`, it saves when asked.
With `mapped` as well, it writes to its table through memory, which leaves no trace in the file's times. With `chatty`,
it writes a line to a log beside its state after each step, so that its files are never quiet for longer than a step.

Its state has a file of every kind: `state.txt` is replaced, `trace.bin` grows, `table.bin` is changed in place and, if
the workload declares growing outputs, `output/steps.log` grows too. The job refuses to resume from files of different
steps.
"""

import os
import shutil
import string
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lifecycle.errors import MisfitError, PermanentError
from lifecycle.ports.clock import Clock
from lifecycle.ports.runner import (
    KILL_WAIT_S,
    Announced,
    Exit,
    FilesInUse,
    Launch,
    Report,
    RunningWorkload,
    WorkloadRunner,
)

SAVED: Final = 75  # EX_TEMPFAIL of sysexits.h: saved, run me again
INVALID: Final = 65  # EX_DATAERR: the input is invalid
KILLED: Final = 137  # 128 + SIGKILL
SILENT_STEPS: Final = 4  # steps between two saves of a silent job
TRACE_STEP_BYTES: Final = 8  # appended for each step
TABLE_PRIMES: Final = (2, 7, 13, 29, 31, 53, 89, 97)

ExitScript = Callable[[Launch, int], int | None]
"""Called with the launch and the number of the next step; returns the code to exit with instead, or None."""
SnapshotCheck = Callable[[Path], str | None]
"""Called with a snapshot; returns what is wrong with it, or None."""
PLACEHOLDERS: Final = frozenset({"python", "sdk", "job", "input_dir", "checkpoint_dir", "output_dir", "snapshot"})
"""Names that a command may use besides the job's parameters (docs/workloads.md)."""


def accept(_: Path) -> None:
    """Find nothing wrong with a snapshot."""


class FakeRunner:
    """Starts fake workloads.

    Args:
        clock: Clock that the steps take their time from.
        step_s: Seconds that a step takes.
        script: Decides which steps exit early.
        check: Takes the place of the checks that workloads name.
        missing: Programs that are not on this image.
    """

    workload: Callable[[Clock, float, ExitScript, Launch], "FakeWorkload"]
    """Makes a fake workload."""

    def __init__(
        self,
        clock: Clock,
        *,
        step_s: float = 1.0,
        script: ExitScript | None = None,
        check: SnapshotCheck = accept,
        missing: Collection[str] = (),
    ) -> None:
        self.started: list[Launch] = []
        """All launches, oldest first."""
        self._clock = clock
        self._step_s = step_s
        self._script = script or (lambda *_: None)
        self._check = check
        self._missing = missing
        self.workload = FakeWorkload

    def expect_startable(self, launch: Launch) -> None:
        """See `WorkloadRunner.expect_startable`."""
        self._expect_startable(launch, launch.workload.command)

    def start(self, launch: Launch) -> RunningWorkload:
        """See `WorkloadRunner.start`."""
        dirs = launch.dirs
        needed = (dirs.input, dirs.checkpoint, dirs.output, dirs.control, dirs.console, dirs.temporary)
        missing = [path for path in needed if not path.is_dir()]
        if missing:
            raise AssertionError(f"{missing[0]} is missing")
        self._expect_startable(launch, launch.workload.command)
        self.started.append(launch)
        return self.workload(self._clock, self._step_s, self._script, launch)

    def check(self, launch: Launch, snapshot: Path) -> str | None:
        """See `WorkloadRunner.check`."""
        if launch.workload.check is None:
            return None
        try:
            self._expect_startable(launch, launch.workload.check)
        except PermanentError as error:
            return f"its check could not be made: {error}"
        return self._check(snapshot)

    def _expect_startable(self, launch: Launch, command: tuple[str, ...]) -> None:
        """Raise PermanentError if a real runner could not fill in *command* or find its program."""
        name = launch.workload.name
        try:
            used = {field for word in command for _, field, _, _ in string.Formatter().parse(word) if field is not None}
        except ValueError as error:
            raise PermanentError(f"workload {name!r}: {command} cannot be filled in: {error}") from error
        if unknown := used - PLACEHOLDERS - launch.params.keys():
            raise PermanentError(f"workload {name!r} needs the parameter {min(unknown)!r}")
        if command[0] in self._missing:
            raise MisfitError(f"program {command[0]!r}")


class FakeWorkload:
    """A running fake workload; each `poll` advances it to the clock's time."""

    def __init__(self, clock: Clock, step_s: float, script: ExitScript, launch: Launch) -> None:
        self._clock = clock
        self._step_s = step_s
        self._script = script
        self._launch = launch
        self._exited: Exit | None = None
        self._announced: Announced | None = None
        self._number = 0
        self._step_began = self._saved_at = clock.monotonic()
        self._save_requested = False
        self._silent, self._patient = (bool(launch.params.get(name)) for name in ("silent", "patient"))
        self._mapped, self._chatty = (bool(launch.params.get(name)) for name in ("mapped", "chatty"))
        self._frozen_at: float | None = None
        self._freeze_kept = False
        self._load()
        self._saved = self._step

    def poll(self) -> Report:
        """See `RunningWorkload.poll`."""
        self._thaw_in_time()
        while self._runs and self._clock.monotonic() - self._step_began >= self._step_s:
            self._step_began += self._step_s
            self._do_step()
        taken = self._announced is not None and not self._announced.path.exists()
        if taken:
            self._announced = None
        done = (self._saved if self._silent else self._step) - self._start + 1
        return Report(done=done, total=self._total, announced=self._announced, exited=self._exited)

    @property
    def _runs(self) -> bool:
        return self._exited is None and self._frozen_at is None

    def ask_to_save(self) -> None:
        """See `RunningWorkload.ask_to_save`."""
        self._save_requested = True

    def files_in_use(self) -> FilesInUse:
        """See `RunningWorkload.files_in_use`."""
        if not self._mapped or self._exited:
            return FilesInUse()
        return FilesInUse(mapped=frozenset({str(self._launch.dirs.checkpoint / "table.bin")}))

    def freeze(self) -> str | None:
        """See `RunningWorkload.freeze`."""
        self.poll()
        if self._exited:
            return "it has ended"
        if self._frozen_at is None:
            self._frozen_at = self._clock.monotonic()
        self._freeze_kept = True
        return None

    def thaw(self) -> bool:
        """See `RunningWorkload.thaw`."""
        self._thaw_in_time()
        kept, self._freeze_kept = self._freeze_kept, False
        self._end_freeze(self._clock.monotonic())
        return kept

    def _thaw_in_time(self) -> None:
        """End a freeze that lasts for too long, at the moment at which that is so."""
        limit_s = self._launch.workload.freeze_limit.total_seconds()
        if self._frozen_at is not None and self._clock.monotonic() >= self._frozen_at + limit_s:
            self._end_freeze(self._frozen_at + limit_s)
            self._freeze_kept = False

    def _end_freeze(self, at: float) -> None:
        if self._frozen_at is not None:
            self._step_began += at - self._frozen_at
            self._frozen_at = None

    def stop(self) -> None:
        """See `RunningWorkload.stop`."""
        self.thaw()
        self.poll()
        if self._exited is None:
            if not self._patient:
                self._save()
            self._exited = Exit(SAVED, "")

    def kill(self, *, within_s: float = KILL_WAIT_S) -> None:
        """See `RunningWorkload.kill`."""
        del within_s
        self.thaw()
        if self._exited is None:
            self._exited = Exit(KILLED, "", clean=False)

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
        if self._log_file:
            self._log_file.write_bytes(trace_bytes(self._step))

    @property
    def _log_file(self) -> Path | None:
        return self._launch.dirs.output / "steps.log" if self._launch.workload.growing else None

    def _resume(self) -> None:
        state = self._launch.dirs.checkpoint
        *_, self._step, self._sum = (int(line) for line in (state / "state.txt").read_text().split())
        for path, wanted in (
            (state / "trace.bin", trace_bytes(self._step)),
            (state / "table.bin", table_bytes(self._step)),
        ):
            if path.exists() and path.read_bytes() != wanted:  # Salad's demo worker leaves only state.txt
                raise AssertionError(f"{path} is not of step {self._step}")
        if self._log_file and not self._log_file.read_bytes().startswith(trace_bytes(self._step)):
            raise AssertionError(f"{self._log_file} does not reach step {self._step}")

    def _do_step(self) -> None:
        if self._step < self._end:
            code = self._script(self._launch, self._step + 1)
            if code is not None:
                self._exited = Exit(code, f"scripted to end at step {self._step + 1}")
                return
            self._step += 1
            self._sum += self._step
            if self._chatty:
                self._chat()
            if self._log_file:
                with self._log_file.open("ab") as file:
                    file.write(trace_bytes(self._step, since=self._step - 1))
        if self._step >= self._end:
            (self._launch.dirs.output / "output.txt").write_text(f"{self._sum}\n")
            self._exited = Exit(0, "")
        elif self._is_due():
            self._save()

    def _chat(self) -> None:
        path = self._launch.dirs.checkpoint / "chat.log"
        with path.open("ab") as file:
            file.write(b"step %d\n" % self._step)
        now_ns = int(self._clock.monotonic() * 1e9)
        os.utime(path, ns=(now_ns, now_ns))

    def _is_due(self) -> bool:
        if self._silent:
            return self._step - self._saved >= SILENT_STEPS
        if self._patient:
            return self._save_requested
        return self._save_requested or self._step_began - self._saved_at >= self._launch.saving_interval.total_seconds()

    def _save(self) -> None:
        if self._silent:
            self._overwrite(self._launch.dirs.checkpoint)
        else:
            self._announce()
        self._saved = self._step

    def _overwrite(self, folder: Path) -> None:
        """Save as programs do: by renaming, appending and writing in place; the files' times are the clock's."""
        part = folder / "state.txt.part"
        part.write_text(self._state())
        part.replace(folder / "state.txt")
        with (folder / "trace.bin").open("ab") as file:
            file.write(trace_bytes(self._step, since=file.tell() // TRACE_STEP_BYTES))
        with os.fdopen(os.open(folder / "table.bin", os.O_RDWR | os.O_CREAT), "r+b") as file:
            file.write(table_bytes(self._step))
        now_ns = int(self._clock.monotonic() * 1e9)
        for name in ("state.txt", "trace.bin", "table.bin"):
            at_ns = 0 if self._mapped and name == "table.bin" else now_ns
            os.utime(folder / name, ns=(at_ns, at_ns))

    def _announce(self) -> None:
        if self._announced:
            shutil.rmtree(self._announced.path, ignore_errors=True)
        self._number += 1
        path = self._launch.dirs.control / "announced" / str(self._number)
        path.mkdir(parents=True)
        (path / "state.txt").write_text(self._state())
        (path / "trace.bin").write_bytes(trace_bytes(self._step))
        (path / "table.bin").write_bytes(table_bytes(self._step))
        self._announced = Announced(self._number, path, self._step - self._start + 1)
        self._saved_at = self._step_began
        self._save_requested = False

    def _state(self) -> str:
        return f"{self._start}\n{self._end}\n{self._step}\n{self._sum}\n"


def trace_bytes(step: int, *, since: int = 0) -> bytes:
    """Return what a fake job appends to its trace between the steps *since* and *step*."""
    return b"".join(number.to_bytes(TRACE_STEP_BYTES) for number in range(since + 1, step + 1))


def table_bytes(step: int) -> bytes:
    """Return a fake job's table at *step*: for each of some primes, the last multiple."""
    return b"".join((step - step % prime).to_bytes(32) for prime in TABLE_PRIMES)


if TYPE_CHECKING:

    def _conforms(runner: FakeRunner) -> WorkloadRunner:
        return runner
