"""Real programs that are stopped in three ways give the same result as an uninterrupted run.

`make programs` stops each program five times in each way, and takes the large file at its full size.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen
from support.process_cluster import ProcessCluster

from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.states import State

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PROGRAMS: Final = Path(__file__).parent / "programs"
IS_FULL: Final = bool(os.environ.get("HOLDFAST_ALL_PROGRAMS"))
MIB: Final = 3072 if IS_FULL else 48
STOPS: Final[dict[str, tuple[str, ...]]] = (
    {way: (way,) * 5 for way in ("kill", "terminate", "pause")}
    if IS_FULL
    else {"each way": ("kill", "terminate", "pause")}
)
OUTCOMES: Final = {"kill": "vanished", "terminate": "drained", "pause": "timeout"}


@frozen
class Program:
    """A program of `programs/`.

    Attributes:
        command: Its command line, without the arguments.
        arguments: Steps, seconds between them, and what else it wants.
    """

    command: tuple[str, ...]
    arguments: tuple[str, ...]

    def result(self, home: Path) -> str:
        """Return the result of a run without pauses and without Holdfast."""
        for name in ("checkpoint", "output"):
            (home / name).mkdir(parents=True)
        steps, _, *more = self.arguments
        environ = {
            **os.environ,
            "PYTHON": sys.executable,
            "HOLDFAST_CHECKPOINT_DIR": str(home / "checkpoint"),
            "HOLDFAST_OUTPUT_DIR": str(home / "output"),
        }
        subprocess.run([*self.command, steps, "0", *more], env=environ, cwd=PROGRAMS, check=True, capture_output=True)
        return (home / "output" / "result").read_text()


def has_another_than(before: CheckpointRef | None) -> Callable[[JobRecord], bool]:
    """Return the condition that a record has a checkpoint, and another than *before*."""
    return lambda record: record.checkpoint not in (None, before)


def python(name: str, *arguments: str) -> Program:
    return Program((sys.executable, name), arguments)


PROGRAM: Final = {
    "sqlite_wal": python("sqlite_wal.py", "16000" if IS_FULL else "7000", "0.005"),
    "memory_map": python("memory_map.py", "16000" if IS_FULL else "7000", "0.005"),
    "in_place": python("in_place.py", *(("6144", "0.01") if IS_FULL else ("500", "0.05")), str(MIB)),
    "wrapper": Program(("bash", "run.sh"), ("4000" if IS_FULL else "1600", "0.015")),
    "checkpoint_folders": python("checkpoint_folders.py", "1200" if IS_FULL else "500", "0.05"),
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("name", PROGRAM)
def test_a_program_that_is_stopped_again_and_again(
    files: ProcessCluster, tmp_path: Path, name: str, stops: tuple[str, ...]
) -> None:
    """Each attempt goes on from a checkpoint of the one before, and the result is that of an uninterrupted run."""
    program = PROGRAM[name]
    given = dict(zip(("steps", "pause", "mib"), program.arguments, strict=False))
    words = [word for key, value in given.items() for word in ("--param", f"{key}={value}")]
    assert files.holdfast("submit", "--no-input", "a", "--workload", name, *words).returncode == 0
    settings = {"WORKLOADS": str(PROGRAMS / "workloads.toml"), "PYTHON": sys.executable}
    for way in stops:
        before = files.record("a").checkpoint
        limit = {"MAX_RUNNING_TIME": "6s"} if way == "pause" else {}
        worker = files.worker("--max-jobs", "1", **settings, **limit)
        files.until("a", has_another_than(before))
        if way == "kill":
            worker.kill()
        elif way == "terminate":
            worker.terminate()
        worker.wait(120)
    assert files.worker("--max-jobs", "1", **settings).wait(300) == 0
    record = files.settled("a")
    assert record.state is State.COMPLETED, record.error
    assert [attempt.outcome for attempt in record.attempts] == [*(OUTCOMES[way] for way in stops), "completed"]
    stored = files.env.store.get(f"{files.env.layout.job('a').output}result")
    assert stored is not None
    assert stored.body.decode() == program.result(tmp_path / "uninterrupted")
