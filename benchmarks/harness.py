"""Shared parts of the benchmarks: the stub as a process, settings that lead to it, and rows of the table."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

BIN: Final = Path(sys.executable).parent
HOLDFAST: Final = str(BIN / "holdfast")
ROOT: Final = Path(__file__).parents[1]
STUB: Final = Path(__file__).with_name("stub.py")
BUCKET: Final = "bench"


@frozen
class Row:
    """A row of the table.

    Attributes:
        what: The measurement.
        value: The result, with its unit.
        comparison: The peer's result from the same run, or the ratio.
        target: The promised result; empty if nothing is promised.
        is_met: True if the target is met.
    """

    what: str
    value: str
    comparison: str = ""
    target: str = ""
    is_met: bool = True


@frozen
class StubServer:
    """A running stub server."""

    url: str

    @property
    def queue_url(self) -> str:
        """URL of a queue."""
        return f"{self.url}/1/jobs"

    def counts(self) -> dict[str, int]:
        """Return the calls so far, by kind."""
        with urllib.request.urlopen(f"{self.url}/__counts") as answer:  # noqa: S310 - our own server
            counts: dict[str, int] = json.load(answer)
        return counts

    def environ(self, home: Path, **more: str) -> dict[str, str]:
        """Return environment variables with which `holdfast` uses this server."""
        return environ(
            home,
            QUEUE_URL=self.queue_url,
            CLOUDFLARE_URL=self.url,
            BUCKET=BUCKET,
            **dict.fromkeys(("AWS_ID", "AWS_KEY", "CLOUDFLARE_ID", "CLOUDFLARE_KEY"), "not-a-secret"),
            **more,
        )


@contextmanager
def stub(round_trip_s: float) -> Iterator[StubServer]:
    """Run a stub server that delays every response by *round_trip_s*."""
    with subprocess.Popen(
        [sys.executable, STUB, "--round-trip", str(round_trip_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None  # noqa: S101 - tells the type checker
        assert server.stdout is not None  # noqa: S101 - the same
        yield StubServer(f"http://127.0.0.1:{server.stdout.readline().strip()}")
        server.stdin.close()
        server.wait(timeout=10)


def environ(home: Path, **more: str) -> dict[str, str]:
    """Return environment variables with these settings and none of the host's."""
    host = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return {**host, "HOLDFAST_HOME": str(home), **more}


def holdfast(env: Mapping[str, str], home: Path, *words: str) -> str:
    """Run a command in *home*, and return its output.

    Raises:
        RuntimeError: The command failed.
    """
    done = subprocess.run([HOLDFAST, *words], env=env, cwd=home, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"holdfast {' '.join(words)} exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def write_requests(file: Path, count: int) -> Path:
    """Write a file of *count* jobs for `holdfast submit --from`."""
    file.write_text("".join(f'{{"job": "job-{number:04d}", "params": {{"seed": 1}}}}\n' for number in range(count)))
    return file
