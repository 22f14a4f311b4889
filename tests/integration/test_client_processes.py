"""The command as a process, with a reader that closes the pipe."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    """`holdfast settings | head -0` prints no error, even if the pipe closes while the output is still buffered."""
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        done = subprocess.run(
            [sys.executable, "-m", "client.cli", "settings"],
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            check=False,
            env={"PYTHONPATH": str(ROOT)},  # without PYTHONUNBUFFERED
            cwd=tmp_path,
        )
    assert (done.returncode, done.stderr) == (141, b"")
