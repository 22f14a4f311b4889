"""The contract of `lifecycle.ports.runner.WorkloadRunner`, on real processes and on fakes that live in the test.

Both run the same jobs: `series-sum` comes with the worker, and the fakes add up the same numbers. The other workloads
are commands of the shell, with parameters that make a fake do the same.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Final

import pytest
from attrs import define, evolve, field
from support.capabilities import declaring
from support.running_workloads import made_dirs

from adapters.local.clock import SystemClock
from adapters.memory.clock import ManualClock
from adapters.memory.runner import FakeRunner
from adapters.process.runner import ProcessRunner
from adapters.process.workloads_file import BUILT_IN
from lifecycle.errors import MisfitError, PermanentError
from lifecycle.ports.clock import Clock
from lifecycle.ports.runner import (
    Announced,
    Exit,
    FilesInUse,
    JobDirs,
    Launch,
    Report,
    RunningWorkload,
    Workload,
    WorkloadRunner,
)

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.02
KILLED: Final = 137
ENDLESS: Final = 1_000_000
FIRST, LAST, SUM = 1, 40, 820

EXITS: Final = Workload("exits", ("sh", "-c", "echo last words >&2; exit {exit_code}"))
DEAF: Final = Workload("deaf", ("sh", "-c", "sleep 0.3; echo 820 > output/output.txt"))
CHECKED: Final = evolve(BUILT_IN, check=("grep", "-q", "whole", "{snapshot}/checkpoint/state.txt"))


class Capability(Enum):
    """Optional properties of a runner."""

    PROCESSES = auto()
    """Its workloads are processes of the operating system, which may start others."""


ADAPTERS: Final = {"process": {Capability.PROCESSES}, "fake": set[Capability]()}


@define
class Adapter:
    """A runner, with the clock that its workloads keep."""

    runner: WorkloadRunner
    clock: Clock
    root: Path
    started: list[RunningWorkload] = field(factory=list)

    def dirs(self) -> JobDirs:
        """Make the directories of another job."""
        return made_dirs(self.root / str(len(list(self.root.iterdir()))))

    def launch(
        self,
        workload: Workload = BUILT_IN,
        *,
        last: int = LAST,
        dirs: JobDirs | None = None,
        resumed: bool = False,
        saving_interval: timedelta = timedelta(hours=1),
        **params: object,
    ) -> Launch:
        """Describe a job that adds up the numbers from 1 to *last*."""
        dirs = dirs or self.dirs()
        (dirs.input / "input.txt").write_text(f"{FIRST}\n{last}\n")
        return Launch(
            workload=workload,
            job="j",
            epoch=1,
            params={"STEP_RUNNING_TIME": 0.02, **params},
            resumed=resumed,
            saving_interval=saving_interval,
            dirs=dirs,
        )

    def start(self, launch: Launch) -> RunningWorkload:
        """Start a job that is ended when the test is."""
        self.started.append(self.runner.start(launch))
        return self.started[-1]

    def until(self, child: RunningWorkload, condition: Callable[[Report], object]) -> Report:
        """Poll *child* until its report fulfils *condition*."""
        deadline = self.clock.monotonic() + PATIENCE_S
        while not condition(report := child.poll()):
            assert report.announced is None or report.announced.path.is_dir()
            assert self.clock.monotonic() < deadline, report
            self.clock.sleep(LOOK_S)
        return report

    def ended(self, child: RunningWorkload) -> Exit:
        """Wait until *child* has ended."""
        exited = self.until(child, lambda report: report.exited).exited
        assert exited is not None
        return exited

    def announced(self, child: RunningWorkload, *, after: int = 0) -> Announced:
        """Wait until *child* has announced a checkpoint with a number above *after*."""
        report = self.until(child, lambda report: report.announced and report.announced.number > after)
        assert report.announced is not None
        return report.announced


def scripted(launch: Launch, _: int) -> int | None:
    """Make a fake end as the workload EXITS does."""
    code = launch.params.get("exit_code")
    return code if isinstance(code, int) else None


def objection(snapshot: Path) -> str | None:
    """Make a fake check as the workload CHECKED does."""
    return None if "whole" in (snapshot / "checkpoint/state.txt").read_text() else "torn"


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    """Return each runner in turn."""
    if request.param == "process":
        made = Adapter(ProcessRunner(environment=os.environ), SystemClock(), tmp_path)
    else:
        clock = ManualClock()
        runner = FakeRunner(clock, step_s=0.02, script=scripted, check=objection, missing=["no-such-program"])
        made = Adapter(runner, clock, tmp_path)
    yield made
    for child in made.started:
        child.kill()


# ---- start and end ----


def test_start_returns_while_the_workload_runs(adapter: Adapter) -> None:
    """A workload that takes long has not ended when `start` returns; it goes on by itself."""
    child = adapter.start(adapter.launch(last=ENDLESS))
    assert child.poll().exited is None
    early = adapter.until(child, lambda report: report.done).done or 0
    adapter.until(child, lambda report: (report.done or 0) > early)


@pytest.mark.parametrize("code", [0, 1, 3, 65, 75, 255])
def test_an_exit_code_is_reported_unchanged(adapter: Adapter, code: int) -> None:
    """The report has the program's own exit code, at every poll after its end."""
    child = adapter.start(adapter.launch(EXITS, exit_code=code))
    assert adapter.ended(child).code == code
    assert child.poll() == child.poll()
    assert adapter.ended(child).code == code


def test_the_tail_is_the_end_of_stderr(adapter: Adapter) -> None:
    """A program that fails with a message is reported with it; a silent one with an empty tail."""
    assert adapter.ended(adapter.start(adapter.launch(EXITS, exit_code=3))).tail
    assert adapter.ended(adapter.start(adapter.launch())).tail == ""


def test_the_result_is_in_the_output_directory(adapter: Adapter) -> None:
    """A workload reads its input and writes its output in its job's directories."""
    launch = adapter.launch()
    assert adapter.ended(adapter.start(launch)).code == 0
    assert (launch.dirs.output / "output.txt").read_text() == f"{SUM}\n"


def test_wrong_input_is_the_workloads_own_error(adapter: Adapter) -> None:
    """`start` does not check the input: the workload exits with its code for invalid input, and gives the reason."""
    launch = adapter.launch()
    (launch.dirs.input / "input.txt").write_text("many\n")
    exited = adapter.ended(adapter.start(launch))
    assert exited.code == 65
    assert "input.txt" in exited.tail


def test_workloads_do_not_mix(adapter: Adapter) -> None:
    """One runner may run several workloads, each with its directories and its reports."""
    one, other = adapter.launch(last=40), adapter.launch(last=30)
    children = [adapter.start(launch) for launch in (one, other)]
    assert [adapter.ended(child).code for child in children] == [0, 0]
    assert [child.poll().total for child in children] == [40, 30]
    assert [(each.dirs.output / "output.txt").read_text() for each in (one, other)] == ["820\n", "465\n"]


@pytest.mark.parametrize(
    "command",
    [("sh", "-c", "exit {missing}"), ("no-such-program",), ("sh", "-c", "{"), ("sh", "-c", "}")],
    ids=["no parameter", "no program", "open brace", "closing brace"],
)
def test_a_workload_that_cannot_be_started_is_a_permanent_error(adapter: Adapter, command: tuple[str, ...]) -> None:
    """An image without the program, or a command that cannot be filled in, raises at `start`, and when asked before."""
    launch = adapter.launch(Workload("w", command))
    for tried in (adapter.start, adapter.runner.expect_startable):
        with pytest.raises(PermanentError) as raised:
            tried(launch)
        assert isinstance(raised.value, MisfitError) == (command[0] == "no-such-program")


def test_what_can_be_started_needs_no_directories_to_be_checked(adapter: Adapter) -> None:
    """Asking beforehand starts nothing, and does not need the job's directories."""
    launch = adapter.launch()
    elsewhere = evolve(launch, dirs=JobDirs(launch.dirs.root / "elsewhere"))
    adapter.runner.expect_startable(elsewhere)
    assert not elsewhere.dirs.root.exists()


# ---- progress ----


def test_progress_rises_to_the_total(adapter: Adapter) -> None:
    """Reports give steps done and total steps; done never falls, and ends at the total."""
    child = adapter.start(adapter.launch())
    seen: list[int] = []

    def look(report: Report) -> object:
        if report.done is not None:
            seen.append(report.done)
            assert report.total == LAST
        return report.exited

    adapter.until(child, look)
    assert seen == sorted(seen)
    assert seen[-1] == LAST


# ---- checkpoints ----


def test_a_workload_saves_every_saving_interval(adapter: Adapter) -> None:
    """A checkpoint is announced once the saving interval has passed, and none before."""
    child = adapter.start(adapter.launch(last=ENDLESS, saving_interval=timedelta(seconds=0.2)))
    first = adapter.announced(child)
    assert adapter.announced(child, after=first.number).number > first.number
    patient = adapter.start(adapter.launch())
    assert adapter.until(patient, lambda report: report.exited).announced is None


def test_a_checkpoint_can_be_requested(adapter: Adapter) -> None:
    """`ask_to_save` produces a complete checkpoint, with the step at which it was taken."""
    child = adapter.start(adapter.launch(last=ENDLESS))
    assert adapter.until(child, lambda report: report.done).announced is None
    child.ask_to_save()
    announced = adapter.announced(child)
    first, last, step, total = (int(line) for line in (announced.path / "state.txt").read_text().split())
    assert (first, last, step) == (FIRST, ENDLESS, announced.step)
    assert total == step * (step + 1) // 2


def test_an_announced_directory_may_be_moved(adapter: Adapter) -> None:
    """A checkpoint that was moved away is no longer reported, and the workload does not touch it."""
    launch = adapter.launch(last=ENDLESS)
    child = adapter.start(launch)
    child.ask_to_save()
    announced = adapter.announced(child)
    taken = announced.path.rename(launch.dirs.snapshots / "taken")
    state = (taken / "state.txt").read_text()
    done = child.poll().done or 0
    assert adapter.until(child, lambda report: (report.done or 0) > done).announced is None
    assert (taken / "state.txt").read_text() == state


def test_numbers_rise_with_each_announcement(adapter: Adapter) -> None:
    """A later checkpoint of a run has a higher number and a later step, whether or not the one before was taken."""
    launch = adapter.launch(last=ENDLESS)
    child = adapter.start(launch)
    found: list[Announced] = []
    for is_taken in (True, False, True):
        child.ask_to_save()
        found.append(adapter.announced(child, after=found[-1].number if found else 0))
        if is_taken:
            found[-1].path.rename(launch.dirs.snapshots / str(found[-1].number))
    assert [each.number for each in found] == sorted({each.number for each in found})
    assert [each.step for each in found] == sorted(each.step or 0 for each in found)


def test_only_the_newest_checkpoint_is_reported(adapter: Adapter) -> None:
    """Once a newer one is announced, an older one that was not taken is never reported again."""
    launch = adapter.launch(last=ENDLESS)
    child = adapter.start(launch)
    child.ask_to_save()
    older = adapter.announced(child)
    child.ask_to_save()
    newer = adapter.announced(child, after=older.number)
    newer.path.rename(launch.dirs.snapshots / "taken")
    assert child.poll().announced is None


def test_a_workload_may_ignore_requests_to_save(adapter: Adapter) -> None:
    """A program that does not know checkpoints runs to its end, with or without requests to save."""
    launch = adapter.launch(DEAF, silent=True)
    child = adapter.start(launch)
    child.ask_to_save()
    child.ask_to_save()
    assert adapter.ended(child).code == 0
    assert child.poll().announced is None
    assert (launch.dirs.output / "output.txt").read_text() == f"{SUM}\n"


def test_a_resumed_workload_continues_from_the_checkpoint(adapter: Adapter) -> None:
    """A run continues from an earlier run's checkpoint: a deviation in its sum persists to the end."""
    launch = adapter.launch(last=400)
    child = adapter.start(launch)
    adapter.until(child, lambda report: (report.done or 0) > 10)
    child.ask_to_save()
    announced = adapter.announced(child)
    child.kill()
    dirs = adapter.dirs()
    first, last, step, total = (int(line) for line in (announced.path / "state.txt").read_text().split())
    (dirs.checkpoint / "state.txt").write_text(f"{first}\n{last}\n{step}\n{total + 1000}\n")
    again = adapter.start(adapter.launch(last=400, dirs=dirs, resumed=True, STEP_RUNNING_TIME=0))
    report = adapter.until(again, lambda report: report.done is not None)
    assert (report.done or 0) >= step > 10
    assert adapter.ended(again).code == 0
    assert (dirs.output / "output.txt").read_text() == f"{400 * 401 // 2 + 1000}\n"


# ---- freezing ----

FREEZE_S: Final = 0.5  # many steps


def frozen(adapter: Adapter, limit: timedelta = timedelta(minutes=1)) -> tuple[RunningWorkload, int]:
    """Start a job and freeze it; return it and the steps that it has done."""
    child = adapter.start(adapter.launch(evolve(BUILT_IN, freeze_limit=limit), last=ENDLESS))
    adapter.until(child, lambda report: report.done)
    assert child.freeze() is None
    return child, child.poll().done or 0


def test_a_frozen_workload_does_nothing_until_it_is_thawed(adapter: Adapter) -> None:
    """Between `freeze` and `thaw` no step is done; afterwards the workload goes on as if nothing had been."""
    child, done = frozen(adapter)
    adapter.clock.sleep(FREEZE_S)
    assert child.poll().done == done
    assert child.thaw()
    adapter.until(child, lambda report: (report.done or 0) > done + 3)
    assert not child.thaw()  # nothing is frozen any more


def test_a_workload_can_be_frozen_again_and_again(adapter: Adapter) -> None:
    """Each freeze is independent of those before it."""
    child, _ = frozen(adapter)
    for _ in range(5):
        assert child.thaw()
        assert child.freeze() is None
    assert child.thaw()


def test_a_freeze_ends_at_its_limit(adapter: Adapter) -> None:
    """After `freeze_limit` the workload goes on by itself, and `thaw` says that it was not stopped all the time."""
    child, done = frozen(adapter, timedelta(seconds=FREEZE_S))
    adapter.until(child, lambda report: (report.done or 0) > done + 3)
    assert not child.thaw()
    assert child.freeze() is None
    assert child.thaw()


def test_a_frozen_workload_can_be_stopped(adapter: Adapter) -> None:
    """`stop` ends the freeze, so the workload can save; what was captured meanwhile is of no use."""
    child, _ = frozen(adapter)
    child.stop()
    assert adapter.ended(child).code == 75
    assert not child.thaw()


def test_a_frozen_workload_can_be_killed(adapter: Adapter) -> None:
    """`kill` ends a frozen workload at once."""
    child, _ = frozen(adapter)
    child.kill()
    exited = child.poll().exited
    assert exited is not None
    assert exited.code == KILLED
    assert not child.thaw()


def test_a_workload_that_has_ended_cannot_be_frozen(adapter: Adapter) -> None:
    """After the end, `freeze` says so, `thaw` promises nothing, and no file is in use."""
    child = adapter.start(adapter.launch(EXITS, exit_code=3))
    adapter.ended(child)
    assert child.freeze()
    assert not child.thaw()
    assert child.files_in_use() == FilesInUse()


# ---- stop and kill ----


def test_a_stopped_workload_saves_and_exits(adapter: Adapter) -> None:
    """`stop` requests a save and an exit: the exit code asks to run again, and the checkpoint has the newest state."""
    child = adapter.start(adapter.launch(last=ENDLESS))
    adapter.until(child, lambda report: report.done)
    child.stop()
    child.stop()
    assert adapter.ended(child).code == 75
    report = child.poll()
    assert report.announced is not None
    assert report.announced.step == report.done
    child.stop()
    assert child.poll() == report


def test_kill_ends_a_workload_at_once(adapter: Adapter) -> None:
    """After `kill` the workload has ended with the code of SIGKILL, and does nothing more."""
    child = adapter.start(adapter.launch(last=ENDLESS))
    adapter.until(child, lambda report: report.done)
    child.kill()
    report = child.poll()
    assert report.exited is not None
    assert report.exited.code == KILLED
    adapter.clock.sleep(0.5)
    child.kill()
    assert child.poll() == report


@pytest.mark.parametrize("code", [0, 75])
def test_a_workload_that_has_ended_cannot_be_stopped_or_killed(adapter: Adapter, code: int) -> None:
    """After the end, `ask_to_save`, `stop` and `kill` change nothing, and raise nothing."""
    child = adapter.start(adapter.launch(EXITS, exit_code=code))
    exited = adapter.ended(child)
    child.ask_to_save()
    child.stop()
    child.kill()
    assert child.poll().exited == exited


@declaring(ADAPTERS, Capability.PROCESSES)
def test_kill_ends_everything_that_the_workload_started(adapter: Adapter) -> None:
    """The processes that a workload started are gone too, also if they and the workload ignore the stop signal."""
    script = "trap '' TERM; sleep 1000 & echo $! > output/part; mv output/part output/pid; wait"
    launch = adapter.launch(Workload("w", ("sh", "-c", script)))
    child = adapter.start(launch)
    pid_file = launch.dirs.output / "pid"
    adapter.until(child, lambda _: pid_file.exists())
    child.stop()
    child.kill()
    adapter.until(child, lambda _: not is_alive(int(pid_file.read_text())))
    assert adapter.ended(child).code == KILLED


def is_alive(pid: int) -> bool:
    """Return True if the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---- checks ----


def snapshot(root: Path, text: str) -> Path:
    """Make a snapshot, laid out like the job's directory."""
    (root / "snapshot/checkpoint").mkdir(parents=True)
    (root / "snapshot/checkpoint/state.txt").write_text(text)
    return root / "snapshot"


def test_a_workload_without_a_check_has_no_objection(adapter: Adapter, tmp_path: Path) -> None:
    """`check` returns None for any snapshot if the workload has no check."""
    assert adapter.runner.check(adapter.launch(), snapshot(tmp_path / "torn", "half")) is None


def test_a_check_decides_on_the_snapshot(adapter: Adapter, tmp_path: Path) -> None:
    """`check` returns None for a snapshot that the workload's check accepts, and otherwise the objection."""
    launch = adapter.launch(CHECKED)
    assert adapter.runner.check(launch, snapshot(tmp_path / "good", "whole")) is None
    assert adapter.runner.check(launch, snapshot(tmp_path / "torn", "half"))


@pytest.mark.parametrize("check", [("no-such-program",), ("grep", "{missing}")], ids=["no program", "no parameter"])
def test_a_failing_check_is_an_objection(adapter: Adapter, tmp_path: Path, check: tuple[str, ...]) -> None:
    """A check that cannot be run counts as an objection, and raises nothing."""
    launch = adapter.launch(evolve(BUILT_IN, check=check))
    assert adapter.runner.check(launch, snapshot(tmp_path / "good", "whole"))
