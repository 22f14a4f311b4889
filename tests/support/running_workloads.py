"""Workloads as real processes, for tests: started, awaited, and their processes looked for."""

import os
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from adapters.process.runner import ProcessRunner
from lifecycle.ports.runner import JobDirs, Launch, Report, RunningWorkload, Workload

PATIENCE_S = 30.0
Start = Callable[..., RunningWorkload]


def made_dirs(root: Path) -> JobDirs:
    """Make the directories of a job."""
    made = JobDirs(root)
    for path in (made.input, made.checkpoint, made.output, made.control, made.console, made.snapshots, made.temporary):
        path.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def starting(dirs: JobDirs) -> Iterator[Start]:
    """Yield a function that starts workloads; kill them all at the end."""
    started: list[RunningWorkload] = []

    def run(*command: str, workload: Workload | None = None, **params: object) -> RunningWorkload:
        launch = Launch(
            workload=workload or Workload("w", command),
            job="j",
            epoch=3,
            params=params,
            resumed=False,
            saving_interval=timedelta(seconds=60),
            dirs=dirs,
        )
        started.append(ProcessRunner(environment=os.environ).start(launch))
        return started[-1]

    yield run
    for child in started:
        child.kill()


def until(child: RunningWorkload, condition: Callable[[Report], object]) -> Report:
    """Wait for a report that fulfils the condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition(report := child.poll()):
        assert time.monotonic() < deadline, report
        time.sleep(0.02)
    return report


def ended(child: RunningWorkload) -> tuple[int, str]:
    """Wait for the end; return exit code and last output."""
    exited = until(child, lambda report: report.exited).exited
    assert exited is not None
    return exited.code, exited.tail


def python(text: str) -> tuple[str, ...]:
    """Return a command that runs a Python program."""
    return ("{python}", "-c", textwrap.dedent(text).replace("{", "{{").replace("}", "}}"))


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Return whether the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Wait until the process is gone; return whether it is."""
    deadline = time.monotonic() + PATIENCE_S
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
