"""Slowdown of a workload by a real worker that saves 1 GiB, and the length of its pauses.

The workload is a loop that counts in windows. Half of the windows begin with a save, in random order within each pair.
A worker runs it, with the queue stub and with sink.c behind TLS. A window is half the saving interval, so the loss
within it is spread over twice the time. In the first run the loop has a core of its own, and everything else, including
the server, has the other; in the second nothing is pinned. The loop's CPU clock separates time lost to waiting from
time lost to slower memory or a shared core.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from harness import BUCKET, HOLDFAST, ROOT, Row, holdfast, stub
from sink import sink

MIB: Final = 1 << 20
FILES: Final = 10
FILE_BYTES: Final = 1024 * MIB // FILES
INTERVAL_S: Final = 30
WINDOW_S: Final = INTERVAL_S / 2
PAIRS: Final = 12
CERTAIN: Final = 2.2  # standard errors, for 95 % with so many pairs

LOOP: Final = """
import json, os, random, sys, time
import holdfast

windows, window_s, core, here = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), os.path.dirname(__file__)
if core >= 0:
    os.sched_setaffinity(0, {core})
job, saved, results = holdfast.job(), 0, []
saves = [each for _ in range(windows // 2) for each in random.sample((False, True), 2)]
for each in [True, *saves]:
    count, pause, began, used = 0, 0.0, time.perf_counter(), time.process_time()
    if each:
        saved += 1
        with job.checkpoint(step=saved) as directory:
            for name in os.listdir(os.path.join(here, "ab"[saved % 2])):
                os.link(os.path.join(here, "ab"[saved % 2], name), os.path.join(directory, name))
        pause = time.perf_counter() - began
    while (now := time.perf_counter()) - began < window_s:
        for _ in range(100_000):
            count += 1
    took, ran = now - began, time.process_time() - used
    results.append({"saves": each, "rate": count / took, "by_cpu": count / ran, "pause": pause})
with open(os.path.join(here, "results"), "w") as file:
    json.dump(results[1:], file)
"""


def measure() -> Iterator[Row]:
    """Measure with and without pinning; takes about a quarter of an hour."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        place = Path(name)
        for folder in "ab":
            (place / folder).mkdir()
            for number in range(FILES):
                (place / folder / str(number)).write_bytes(random.randbytes(FILE_BYTES))
        (place / "loop.py").write_text(LOOP)
        pauses: list[float] = []
        for pinned in (True, False):
            results = run(place, pinned=pinned)
            pauses += [window["pause"] for window in results]
            yield from rows(results, "on its own core" if pinned else "without pinning", promised=pinned)
        worst = max(pauses) * 1000
        yield Row("announcing 1 GiB in 10 files: pause", f"{worst:.1f} ms", "", "at most 50 ms", worst <= 50)
        yield cost(place)


def run(place: Path, *, pinned: bool) -> list[dict[str, Any]]:
    """Run the loop in a worker, and return its results for each window."""
    loops, rest = (0, 1) if pinned else (-1, None)
    home = place / f"home-{pinned}"
    home.mkdir()
    words = f"{{python}} {place}/loop.py {2 * PAIRS} {WINDOW_S} {loops}"
    (home / "workloads.toml").write_text(f'[loop]\ncommand = "{words}"\n')
    with stub(0) as queue, sink(place, core=rest) as server:
        cloud = {**queue.environ(home), "CLOUDFLARE_URL": server.url, **server.trust}
        env = {**cloud, "WORKLOADS": str(home / "workloads.toml"), "STATE_SAVING_INTERVAL": "1h"}
        holdfast(env, home, "submit", "--no-input", f"loop-{pinned}", "--workload", "loop")
        run_worker(env, home, core=rest)
    results: list[dict[str, Any]] = json.loads((place / "results").read_text())
    return results


def run_worker(env: Mapping[str, str], home: Path, *, core: int | None) -> None:
    """Run a worker for one job, pinned to *core* if given; the workload may choose another core."""
    worker = subprocess.Popen(
        [HOLDFAST, "worker", "--max-jobs", "1"], env=env, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if core is not None:
        os.sched_setaffinity(worker.pid, {core})
    _, stderr = worker.communicate()
    if worker.returncode:
        raise RuntimeError(f"the worker exited with {worker.returncode}: {stderr.decode()[-500:]}")


def rows(results: Sequence[Mapping[str, Any]], where: str, *, promised: bool) -> Iterator[Row]:
    """Compare windows that save with windows that do not."""
    for clock, what in (
        ("rate", f"slowdown of a loop {where}, 1 GiB saved every {INTERVAL_S} s"),
        ("by_cpu", "  of which by the CPU clock"),
    ):
        losses = [loss_of(pair, clock) for pair in zip(results[::2], results[1::2], strict=True)]
        mean, error = statistics.fmean(losses), statistics.stdev(losses) / len(losses) ** 0.5 * CERTAIN
        value = f"{mean:.2%} ± {error:.2%}"
        if clock == "rate":
            target, is_met = ("at most 1 %", mean <= 0.01) if promised else ("", True)
            yield Row(what, value, f"{len(losses)} pairs of windows; 95 %", target, is_met)
        else:
            yield Row(what, value, "not waiting, but slower memory or a shared core")


def loss_of(pair: Sequence[Mapping[str, Any]], clock: str) -> float:
    """Return the share of an interval that a save costs, from one pair of windows."""
    saving, still = sorted(pair, key=lambda window: not window["saves"])
    return float((1 - saving[clock] / still[clock]) * WINDOW_S / INTERVAL_S)


def cost(place: Path) -> Row:
    """Measure the CPU time of saving 1 GiB."""
    with sink(place) as server:
        env = {**os.environ, **server.trust, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, str(ROOT / "benchmarks" / "saver.py"), server.url, BUCKET, "save"]
        done = subprocess.run(
            [*words, *(str(place / name) for name in "ab")],
            env=env,
            cwd=place,
            check=True,
            capture_output=True,
            text=True,
        )
    saved = json.loads(done.stdout)["saved"][1]
    return Row("saving 1 GiB over TLS: CPU", f"{saved['cpu_s']:.2f} s", f"{saved['s']:.2f} s elapsed")
