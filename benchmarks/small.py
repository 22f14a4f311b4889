"""First upload of a thousand files of 256 KiB, in comparison with the peers: over TLS, with and without a round trip.

Each client runs in a process of its own, in turns; the results are medians. `raw` neither hashes nor reads files: it
sends as many bytes from memory over plain connections, so no client can be faster on this machine.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from attrs import frozen
from harness import BIN, BUCKET, Row
from sink import Sink, sink

HERE: Final = Path(__file__).parent
COUNT: Final = 1000
SIZE: Final = 256 << 10
TURNS: Final = 5
ROUND_TRIPS_S: Final = ((0.04, 3.0), (0.0, 3.0), (0.2, None))  # and the target, if there is one
GIB: Final = 1 << 30

OURS: Final = ("holdfast", "raw")
PEERS: Final = ("obstore-16", "obstore-256", "awscrt", "boto3-up")
S5CMD: Final = (16, 256)  # its default is 256


@frozen
class Took:
    """Elapsed and CPU seconds, without the start-up of the process if the program reports it."""

    s: float
    cpu_s: float


def measure() -> Iterator[Row]:
    """Measure with a typical round trip, without one, and with a long one; takes about five minutes."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        place = Path(name)
        folder = place / "many"
        folder.mkdir()
        for number in range(COUNT):
            (folder / f"{number:04d}").write_bytes(random.randbytes(SIZE))
        for round_trip_s, target in ROUND_TRIPS_S:
            with sink(place, round_trip_s=round_trip_s) as server:
                yield from compared(round_trip_s, target, in_turns(server, place, folder))


def in_turns(server: Sink, place: Path, folder: Path) -> dict[str, list[Took]]:
    """Return the times of each client, in several turns."""
    ways: dict[str, Callable[[], Took]] = {
        "holdfast": partial(by_script, "saver.py", "save", server, place, folder),
        "raw": partial(by_script, "peers.py", "raw", server, place, folder),
        **{name: partial(by_script, "peers.py", name, server, place, folder) for name in PEERS},
        **{f"s5cmd-{workers}": partial(by_s5cmd, workers, server, place, folder) for workers in S5CMD},
    }
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            took[name].append(way())
    return took


def by_script(script: str, what: str, server: Sink, place: Path, folder: Path) -> Took:
    """Run saver.py or peers.py."""
    environ = {**os.environ, **server.trust, "PYTHONPATH": str(HERE.parent)}
    words = [sys.executable, str(HERE / script), server.url, BUCKET, what, str(folder)]
    done = subprocess.run(words, env=environ, cwd=place, check=False, capture_output=True, text=True)
    if not done.stdout:  # obstore sometimes aborts at exit, after its result is printed
        raise RuntimeError(f"{what} ended with {done.returncode}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    result = result["saved"][0] if "saved" in result else result
    return Took(result["s"], result["cpu_s"])


def by_s5cmd(workers: int, server: Sink, place: Path, folder: Path) -> Took:
    """Run s5cmd; its start-up time of some 10 ms is included."""
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    words = [str(BIN / "s5cmd"), "--endpoint-url", server.url, "--numworkers", str(workers)]
    words += ["cp", f"{folder}/*", f"s3://{BUCKET}/m/"]
    began, before = time.perf_counter(), children_s()
    subprocess.run(words, env={**os.environ, **server.trust, **keys}, cwd=place, check=True, capture_output=True)
    return Took(time.perf_counter() - began, children_s() - before)


def children_s() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(round_trip_s: float, target: float | None, took: dict[str, list[Took]]) -> Iterator[Row]:
    """Compare our time with the best of the peers, with the bound, and by CPU time."""
    seconds = {name: statistics.median(each.s for each in turns) for name, turns in took.items()}
    best = min((name for name in seconds if name not in OURS), key=seconds.__getitem__)
    ratio = seconds[best] / seconds["holdfast"]
    peers = ", ".join(f"{name} {seconds[name]:.2f} s" for name in seconds if name not in OURS)
    what = f"{COUNT} files of 256 KiB, TLS, round trip of {round_trip_s * 1000:.0f} ms"
    value = f"{seconds['holdfast']:.2f} s, {ratio:.2f} x the best ({best})"
    promised = f"at least {target:.1f} x" if target else ""
    yield Row(what, value, peers, promised, not target or ratio >= target)
    bound = seconds[best] / seconds["raw"]
    yield Row("  raw bytes from memory, unhashed", f"{seconds['raw']:.2f} s, {bound:.2f} x the best", "upper bound")
    yield Row("  CPU of the client", cpu(took["holdfast"]), ", ".join(f"{name} {cpu(took[name])}" for name in took))


def cpu(turns: Sequence[Took]) -> str:
    """Return the CPU seconds per GiB."""
    return f"{statistics.median(each.cpu_s for each in turns) * GIB / (COUNT * SIZE):.2f} s/GiB"
