"""The client as a process: a reader that leaves."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_reader_who_has_gone_is_no_error(tmp_path: Path) -> None:
    """`holdfast settings | head -0` says nothing, though all was still in the buffer when the reader left."""
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as gone:
        gone.wait()
        done = subprocess.run(
            [sys.executable, "-m", "client.cli", "settings"],
            stdout=gone.stdin,
            stderr=subprocess.PIPE,
            check=False,
            env={"PYTHONPATH": str(ROOT)},  # without PYTHONUNBUFFERED
            cwd=tmp_path,
        )
    assert (done.returncode, done.stderr) == (141, b"")
