"""Two minutes of chaos (`make chaos` for more)."""

import json
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from acceptance import chaos

SECONDS: Final = 120

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(800)]


def test_no_work_is_lost_in_chaos(moto_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty jobs, three workers, everything against them: every sum is right, and every job has one completion."""
    account = chaos.play(tmp_path, port=urlsplit(moto_url).port or 0, seed=1, seconds=SECONDS, jobs=20)
    with capsys.disabled():
        print(json.dumps(account))  # noqa: T201 - what it came to belongs to the log
    assert account["jobs"] == 20
    assert account["take_overs"] > 0
