"""Captures: how long one takes, for how long it stops the program, and scans and restores of many files.

rsync and restic are measured on the same trees if they are installed (`apt-get install rsync restic`). Set BENCH_DIR to
a folder on XFS or Btrfs to measure copies that share blocks.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from harness import Row
from saving import bench

from adapters.local.clock import SystemClock
from adapters.process.runner import ProcessRunner
from lifecycle.checkpoint.capture import capture_frozen
from lifecycle.checkpoint.copies import MadeCopy, copy_ahead, new_directory
from lifecycle.checkpoint.sparse import shares_blocks
from lifecycle.checkpoint.survey import FileState, scan
from lifecycle.ports.runner import JobDirs, Launch, RunningWorkload, Workload

MIB: Final = 1 << 20
GIB: Final = 1 << 30
SCANNED: Final = 100_000
RESTORED: Final = 10_000
IN_A_FOLDER: Final = 500
WRITER: Final = """
import os, random, time
size = 1 << 30
file = os.open("checkpoint/state", os.O_RDWR | os.O_CREAT)
block = os.urandom(1 << 20)
for number in range(1024):
    os.pwrite(file, block, number << 20)
open("output/ready", "w").close()
while True:
    os.pwrite(file, os.urandom(4096), random.randrange(size - 4096))
    time.sleep(0.005)
"""


def measure() -> Iterator[Row]:
    """Measure everything; takes about two minutes, and 4 GiB of disk."""
    yield from in_place()
    yield from scans()
    yield from restores()


@contextmanager
def place() -> Iterator[Path]:
    """Make a folder on the disk that is measured."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        yield Path(folder)


# ---- one file that is always written to ----


def in_place() -> Iterator[Row]:
    """Measure one capture of a program that writes 1 GiB in place, and for how long it is stopped."""
    with place() as root, writing(root) as (child, dirs):
        kind = "reflink" if shares_blocks(root) else "copy"
        began = time.perf_counter()
        copied_s, stopped_s = captured(child, dirs)
        took_s = time.perf_counter() - began
        yield Row(f"1 GiB in place, {kind}: capture", f"{took_s:.2f} s", f"copied ahead in {copied_s:.2f} s")
        target = "<= 0.1 s" if kind == "reflink" else "<= 1.5 s"
        limit_s = 0.1 if kind == "reflink" else 1.5
        yield Row(f"1 GiB in place, {kind}: program stopped", f"{stopped_s:.3f} s", "", target, stopped_s <= limit_s)
        source, again = dirs.checkpoint / "state", root / "again"
        yield from peers(root, "1 GiB in place", lambda: shutil.copyfile(source, again), source)


@contextmanager
def writing(root: Path) -> Iterator[tuple[RunningWorkload, JobDirs]]:
    """Run the writer until the file has its size."""
    dirs = JobDirs(root / "work" / "job")
    for path in (dirs.input, dirs.checkpoint, dirs.output, dirs.control, dirs.console, dirs.snapshots, dirs.temporary):
        path.mkdir(parents=True, exist_ok=True)
    workload = Workload("writer", (sys.executable, "-c", WRITER.replace("{", "{{").replace("}", "}}")))
    launch = Launch(
        workload=workload,
        job="job",
        epoch=1,
        params={},
        resumed=False,
        saving_interval=timedelta(hours=1),
        dirs=dirs,
    )
    child = ProcessRunner(environment=os.environ).start(launch)
    try:
        while not (dirs.output / "ready").exists():
            time.sleep(0.05)
        yield child, dirs
    finally:
        child.kill()


def captured(child: RunningWorkload, dirs: JobDirs) -> tuple[float, float]:
    """Capture as a worker does; return the seconds for copying ahead and those for which the program was stopped."""
    made: dict[str, MadeCopy] = {}
    new_directory(dirs, 1)
    began = time.perf_counter()
    for _ in copy_ahead("checkpoint/state", made, dirs=dirs, seq=1):
        pass
    copied_s = time.perf_counter() - began
    began = time.perf_counter()
    if why := child.freeze():
        raise RuntimeError(why)
    child.files_in_use()
    workload = Workload("writer", ("true",))
    capture_frozen(workload, seq=1, step=None, dirs=dirs, in_place=set(), copies=always, made=made)
    if not child.thaw():
        raise RuntimeError("the freeze was not kept")
    return copied_s, time.perf_counter() - began


def always(_: str, __: FileState) -> bool:
    """Copy every file."""
    return True


# ---- many files ----


def make_tree(root: Path, count: int) -> None:
    """Make *count* files of 100 bytes, in folders."""
    random.seed(1)
    for number in range(count):
        folder = root / f"{number // IN_A_FOLDER:04d}"
        if number % IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:06d}").write_bytes(random.randbytes(100))


def scans() -> Iterator[Row]:
    """Measure scans of 100,000 files that have not changed."""
    with place() as root:
        dirs = JobDirs(root / "job")
        make_tree(dirs.checkpoint, SCANNED)
        workload = Workload("w", ("true",))
        took = [timed(lambda: scan(dirs, workload)) for _ in range(3)]
        yield Row(f"scan of {SCANNED:,} files", f"{min(took):.2f} s", "", "<= 3 s", min(took) <= 3)
        yield from peers(root, f"{SCANNED:,} files, unchanged", None, dirs.checkpoint)


def restores() -> Iterator[Row]:
    """Measure a restore of 10,000 entries, over HTTP from a server that holds them in memory."""
    with bench() as used:
        tree, back = used.place / "tree", used.place / "back"
        make_tree(tree, RESTORED)
        used.do("save", tree)
        took_s = used.do("restore", back)["s"]
        yield Row(f"restore of {RESTORED:,} files", f"{took_s:.2f} s", "", "<= 10 s", took_s <= 10)
        yield from peers(
            used.place, f"{RESTORED:,} files, copied", lambda: shutil.copytree(tree, used.place / "c"), tree
        )


def peers(root: Path, what: str, copy: Callable[[], object] | None, source: Path) -> Iterator[Row]:
    """Measure the peers on *source*: a plain copy, `rsync -a` and `restic backup`; the second run without *copy*."""
    if copy:
        yield Row(f"{what}: Python's copy", f"{timed(copy):.2f} s")
    if shutil.which("rsync"):
        words = ["rsync", "-a", str(source), str(root / "rsync")]
        first, second = (timed(lambda: run(words)) for _ in range(2))
        yield Row(f"{what}: rsync -a", f"{first if copy else second:.2f} s")
    if shutil.which("restic"):
        repository = str(root / "restic")
        run(["restic", "init", "-r", repository])
        words = ["restic", "backup", "-r", repository, str(source)]
        first, second = (timed(lambda: run(words)) for _ in range(2))
        yield Row(f"{what}: restic backup", f"{first if copy else second:.2f} s")


def run(words: list[str]) -> None:
    """Run a peer; one that meets a file that changes may say so by its exit code."""
    environ = {**os.environ, "RESTIC_PASSWORD": "bench"}
    with suppress(subprocess.CalledProcessError):
        subprocess.run(words, env=environ, check=True, capture_output=True)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that *work* takes."""
    began = SystemClock().monotonic()
    work()
    return SystemClock().monotonic() - began
