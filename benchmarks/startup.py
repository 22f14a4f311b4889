"""Run time of commands from start to end, in comparison with an interpreter that does nothing."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness import HOLDFAST, Row, environ, holdfast, write_requests

ROUNDS: Final = 15
JOBS: Final = 1000
HELP_MS: Final = 150
STATUS_MS: Final = 1000


def measure() -> Iterator[Row]:
    """Run each command in turn, several times, and report medians."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        env = environ(home)
        holdfast(env, home, "submit", "--no-input", "--from", str(write_requests(home / "jobs.jsonl", JOBS)))
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "holdfast --help": [HOLDFAST, "--help"],
            "holdfast status": [HOLDFAST, "status"],
            "holdfast status --json": [HOLDFAST, "status", "--json"],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                took[name].append(timed(command, env, home))
    ms = {name: statistics.median(times) * 1000 for name, times in took.items()}
    bare = ms["python -c pass"]
    yield Row("python -c pass", f"{bare:.0f} ms", f"median of {ROUNDS}")
    yield row("holdfast --help", ms["holdfast --help"], bare, HELP_MS)
    for name in ("holdfast status", "holdfast status --json"):
        yield row(f"{name}, {JOBS} local jobs", ms[name], bare, STATUS_MS)


def row(what: str, took_ms: float, bare_ms: float, limit_ms: int) -> Row:
    """Return the row of a command."""
    return Row(what, f"{took_ms:.0f} ms", f"{took_ms / bare_ms:.1f} x python", f"<= {limit_ms} ms", took_ms <= limit_ms)


def timed(command: Sequence[str], env: Mapping[str, str], home: Path) -> float:
    """Return the seconds from start to end of a command."""
    began = time.perf_counter()
    subprocess.run(command, env=env, cwd=home, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
