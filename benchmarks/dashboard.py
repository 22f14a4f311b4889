"""The dashboard over 10,000 local jobs, a fifth of them owned: load times, and the delay of updates to an open page."""

import json
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from attrs import evolve
from harness import HOLDFAST, Row, environ

from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import from_environ
from lifecycle.job_record import JobRecord, Progress
from lifecycle.ports.store import ABSENT
from lifecycle.record.codec import encode_record
from lifecycle.states import State

JOBS: Final = 10_000
ROUNDS: Final = 15
CHANGES: Final = 10
PAGE_MS: Final = 1000
UPDATE_S: Final = 5.0
STATES: Final = (State.RUNNING, State.QUEUED, State.COMPLETED, State.COMPLETED, State.FAILED)
PAGES: Final = ("", "jobs", "jobs?page=150&sort=progress", "jobs?text=job-0777", "jobs/job-07777", "nodes")


def measure() -> Iterator[Row]:
    """Write the records, serve them, load each page, and change some records."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        variables = environ(home)
        env = open_environment(from_environ(variables, None))
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: put(env, number), range(JOBS)))
        with served(variables, home) as (address, began), urllib.request.urlopen(f"{address}events") as stream:  # noqa: S310 - our own
            while next_news(stream)["total"] < JOBS:
                pass
            yield Row(
                f"dashboard, {JOBS} jobs: start until all jobs are counted", f"{time.perf_counter() - began:.1f} s"
            )
            for path in PAGES:
                took_ms = 1000 * statistics.median(timed(address + path) for _ in range(ROUNDS))
                yield Row(
                    f"  GET /{path}", f"{took_ms:.0f} ms", f"median of {ROUNDS}", f"<= {PAGE_MS} ms", took_ms <= PAGE_MS
                )
            latencies = [update_delay(env, stream, number) for number in range(CHANGES)]
            worst = max(latencies)
            yield Row(
                "  change of a record until an open page is notified",
                f"{statistics.median(latencies):.1f} s",
                f"slowest of {CHANGES}: {worst:.1f} s",
                f"<= {UPDATE_S:.0f} s",
                worst <= UPDATE_S,
            )


def record_of(number: int) -> JobRecord:
    """Return the record of a job."""
    state = STATES[number % len(STATES)]
    owner = f"node-{number:05d}" if state is State.RUNNING else None
    progress = Progress(number, JOBS, 2.0)
    return JobRecord(f"job-{number:05d}", "bench", state=state, owner=owner, lease_s=3600, progress=progress)


def put(env: Environment, number: int) -> None:
    """Store the record of a job."""
    record = record_of(number)
    env.store.put(env.layout.job(record.job).record, encode_record(record), expected=ABSENT)


@contextmanager
def served(variables: dict[str, str], home: Path) -> Iterator[tuple[str, float]]:
    """Run the command, and yield the address that it prints and its start time."""
    began = time.perf_counter()
    with subprocess.Popen(
        [HOLDFAST, "dashboard", "--port", "0"], env=variables, cwd=home, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - tells the type checker
        try:
            yield process.stdout.readline().split()[-1], began
        finally:
            process.terminate()


def timed(address: str) -> float:
    """Return the seconds to load a page completely."""
    began = time.perf_counter()
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own server
        answer.read()
    return time.perf_counter() - began


def next_news(stream: Iterator[bytes]) -> dict[str, Any]:
    """Return the data of the stream's next `news` event."""
    is_news = False
    for line in stream:
        if line.startswith(b"event:"):
            is_news = line.strip() == b"event: news"
        elif is_news and line.startswith(b"data: "):
            data: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            return data
    raise RuntimeError("the stream has ended")


def update_delay(env: Environment, stream: Iterator[bytes], number: int) -> float:
    """Return the seconds from a write to its `news` event."""
    record = record_of(number)
    changed = evolve(record, progress=evolve(record.progress, done=1_000_000))
    env.store.put(env.layout.job(record.job).record, encode_record(changed))
    began = time.perf_counter()
    while record.job not in (next_news(stream)["changed"] or ()):
        pass
    return time.perf_counter() - began
