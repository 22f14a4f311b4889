"""`holdfast status` of 1,000, 10,000 and 100,000 jobs: the first run, another after 50 changes, and their memory.

For comparison: a run without an index needs a GET for each record, as the first one does; and the time of the bare
listing. SIZES=1000,10000 measures fewer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from attrs import evolve
from harness import Row, StubServer, stub

from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import from_environ
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord, Progress, Timestamps
from lifecycle.record.codec import encode_record
from lifecycle.states import State

SIZES: Final = tuple(map(int, os.environ.get("SIZES", "1000,10000,100000").split(",")))
CHANGES: Final = 50
WRITERS: Final = 32
REFRESH_S: Final = 5.0

STATUS_SCRIPT: Final = """
import json, sys, time
from client.commands import status
began = time.perf_counter()
from client.config.composition import open_environment
from client.config.settings import current_settings
from client.records.query import parse_query
env = open_environment(current_settings())
code = status.run(env, [], parse_query(states=["failed"]), as_json=False, watch=False)
took_s = time.perf_counter() - began
peak = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"s": took_s, "cpu_s": time.process_time(), "mib": peak}))
"""


def measure() -> Iterator[Row]:
    """Measure each size."""
    for count in SIZES:
        with stub(0.0) as server, TemporaryDirectory() as folder:
            env = open_environment(from_environ(server.environ(Path(folder)), None))
            fill(env, [make_record(number) for number in range(count)])
            first = run_status(server, Path(folder))
            changed = [evolve(make_record(number), beat=1) for number in range(0, count, count // CHANGES)]
            fill(env, changed)
            again = run_status(server, Path(folder))
            listing_s = list_only(env)
        what = f"status of {count:,} jobs"
        rate = f"{count / first['s']:,.0f} records/s"
        yield Row(f"{what}: first", f"{first['s']:.1f} s, {first['mib']:.0f} MiB", rate)
        yield Row(
            f"{what}: again, {len(changed)} changed",
            f"{again['s']:.2f} s, {again['cpu_s']:.2f} s of it CPU, {again['mib']:.0f} MiB",
            f"{first['s'] / again['s']:.0f} x as fast as the first; the bare listing takes {listing_s:.2f} s",
            f"<= {REFRESH_S:g} s",
            again["s"] <= REFRESH_S,
        )


def run_status(server: StubServer, home: Path) -> dict[str, Any]:
    """Run the command in a process of its own, and return its measurements."""
    environ = {**server.environ(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", STATUS_SCRIPT], env=environ, cwd=home, check=True, capture_output=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def list_only(env: Environment) -> float:
    """Return the seconds of the listing alone."""
    began = time.perf_counter()
    for _ in env.store.list(env.layout.records):
        pass
    return time.perf_counter() - began


def fill(env: Environment, records: list[JobRecord]) -> None:
    """Put records into the bucket."""
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda record: env.store.put(env.layout.job(record.job).record, encode_record(record)), records))


def make_record(number: int) -> JobRecord:
    """Return the record of a job that is running or has ended."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime())
    ref = CheckpointRef(f"{number}/checkpoints/e3/000007.json", "blake3:" + "0" * 64, 7, 700, 1 << 30, 1 << 24, now)
    attempts = tuple(AttemptSummary(epoch, f"node-{number}-{epoch}", now, now, "vanished") for epoch in (1, 2, 3))
    return JobRecord(
        f"job-{number:06d}",
        "series-sum",
        {"seed": number},
        state=(State.RUNNING, State.FAILED, State.QUEUED, State.COMPLETED)[min(number % 100, 3)],
        epoch=3,
        owner=f"node-{number}-3",
        lease_s=120.0,
        checkpoint=ref,
        fallback=ref,
        progress=Progress(700, 1000, 1.5),
        attempts=attempts,
        timestamps=Timestamps(now, now, now),
    )
