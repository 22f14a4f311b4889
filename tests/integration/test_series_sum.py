"""The built-in workload, run as a program, with and without a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SDK = Path(__file__).parents[2] / "sdk"
SCRIPT = SDK / "holdfast" / "series_sum.py"


def prepare(folder: Path, text: str | bytes | None, **params: object) -> None:
    (folder / "input").mkdir()
    if text is not None:
        (folder / "input" / "input.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "params.json").write_text(json.dumps(params))


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(SCRIPT)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("start", "end"), [(1, 2880), (5, 5), (-10, 3), (10**18, 10**18 + 3_000_000), (0, 3_000_000)])
def test_the_sum_is_exact(tmp_path: Path, start: int, end: int) -> None:
    """The sum is exact for every range, including negative numbers and sums beyond 64 bits."""
    prepare(tmp_path, f"{start}\n{end}\n")
    assert run(tmp_path).returncode == 0
    assert int((tmp_path / "output/output.txt").read_text()) == (start + end) * (end - start + 1) // 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5\n3\n", "input.txt: start 5 is greater than end 3"),
        ("a\n3\n", "input.txt: 'a' is not a whole number"),
        ("1.5\n3\n", "input.txt: '1.5' is not a whole number"),
        ("1\n", "input.txt: has 1 lines, not 2 numbers, one a line"),
        ("1\n2\n3\n", "input.txt: has 3 lines"),
        ("", "input.txt: has 0 lines"),
        (b"\xff\xfe\n", "input.txt: is not text"),
        (None, "input.txt: there is no such file"),
    ],
)
def test_an_invalid_input_is_one_line_and_code_65(tmp_path: Path, text: str | bytes | None, reason: str) -> None:
    """An invalid input is one line on stderr and exit code 65, so the job is not retried."""
    prepare(tmp_path, text)
    done = run(tmp_path)
    assert done.returncode == 65
    assert done.stderr.startswith(reason)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "output/output.txt").exists()


@pytest.mark.parametrize("value", ["soon", -1, "inf", "nan", [1]])
def test_an_invalid_step_time_is_code_65(tmp_path: Path, value: object) -> None:
    """Invalid parameters have the same exit code as invalid input."""
    prepare(tmp_path, "1\n3\n", STEP_RUNNING_TIME=value)
    done = run(tmp_path)
    assert done.returncode == 65
    assert "STEP_RUNNING_TIME" in done.stderr


def test_it_saves_on_sigterm_and_resumes(tmp_path: Path) -> None:
    """SIGTERM saves the state and exits with 75; the next run resumes from it, and the sum is right."""
    prepare(tmp_path, "1\n400\n", STEP_RUNNING_TIME="0.005")
    process = subprocess.Popen([sys.executable, "-P", str(SCRIPT)], cwd=tmp_path)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    start, end, step, total = map(int, (tmp_path / "checkpoint/state.txt").read_text().split())
    assert (start, end) == (1, 400)
    assert 1 < step < 400
    assert total == step * (step + 1) // 2
    assert run(tmp_path).returncode == 0
    assert (tmp_path / "output/output.txt").read_text() == "80200\n"


def test_a_state_of_another_input_is_refused(tmp_path: Path) -> None:
    """The state of another input is refused with exit code 65."""
    prepare(tmp_path, "1\n400\n")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/state.txt").write_text("1\n500\n20\n210\n")
    done = run(tmp_path)
    assert done.returncode == 65
    assert "not this input" in done.stderr


@pytest.mark.parametrize("state", ["20\n210", "20\n210\n", "1\n400\n20\n210\n", "0\n0"])
def test_both_forms_of_the_state_are_resumed(tmp_path: Path, state: str) -> None:
    """A state has four lines, or the two of Salad's first demo: the last number added, and the sum."""
    prepare(tmp_path, "1\n400\n")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/state.txt").write_text(state)
    assert run(tmp_path).returncode == 0
    assert (tmp_path / "output/output.txt").read_text() == "80200\n"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("20\n211", "the sum 211 up to 20, which is not this input: it is 210"),
        ("500\n125250", "not this input"),
        ("20", "has 1 lines, not 4 numbers"),
        ("1\n20\n210", "has 3 lines, not 4 numbers"),
        ("20\nx", "not a whole number"),
        ("", "lines, not 4 numbers"),
    ],
)
def test_any_other_state_is_refused(tmp_path: Path, state: str, reason: str) -> None:
    """A state in another form, or of another input, is an error; the job never begins anew in silence."""
    prepare(tmp_path, "1\n400\n")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/state.txt").write_text(state)
    done = run(tmp_path)
    assert (done.returncode, reason in done.stderr) == (65, True), done.stderr


@pytest.mark.skipif("HOLDFAST_OLD_PYTHON" not in os.environ, reason="set HOLDFAST_OLD_PYTHON to a Python 3.8 to run it")
def test_it_runs_in_an_old_python(tmp_path: Path) -> None:
    """The SDK runs in the Python of the job's image, from 3.8 on."""
    prepare(tmp_path, "1\n10\n")
    command = [os.environ["HOLDFAST_OLD_PYTHON"], "-m", "holdfast.series_sum"]
    env = {**os.environ, "PYTHONPATH": str(SDK)}
    done = subprocess.run(command, cwd=tmp_path, env=env, check=False, timeout=60)
    assert done.returncode == 0
