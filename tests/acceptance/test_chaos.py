"""Two minutes of chaos (`make chaos` runs longer)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 120

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(800)]


def test_no_work_is_lost_in_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty jobs on three workers under constant faults: each sum is right, and each job is completed once."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "acceptance.chaos", "--seconds", str(SECONDS)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\nchaos: {json.dumps(account)}")  # noqa: T201 - what it came to belongs to the log
    assert account["jobs"] == 20
    assert account["take_overs"] > 0
