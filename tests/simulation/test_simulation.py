"""Thousands of histories of the real code, and proof that the checker detects bugs."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from simulation import mutants, run
from simulation.faults import ANY, Fault
from simulation.history import HistoryResult, JobKind, play

ROOT: Final = Path(__file__).parents[2]
HISTORIES: Final = 500
"""`make soak` plays more."""
AT_A_TIME: Final = 125
RARE: Final = frozenset(
    {
        "age_by_our_clock",
        "archived_although_reopened",
        "changed_blocks_taken_for_the_same",
        "checkpoints_uploaded_and_not_committed",
        "collection_not_bounded_by_epoch",
        "extension_without_the_lease",
        "fallback_not_tried",
        "first_record_overwritten",
        "mapped_file_linked",
        "own_take_not_recognised",
        "read_error_taken_for_absence",
        "schema_raised_by_retry",
        "superseded_workload_runs_on",
        "suspicion_from_a_drained_attempt",
    }
)
"""Mutants that take more than 40 histories to be found, so that only `make mutants` runs them."""
MUTANTS: Final = tuple(name for name in mutants.NAMES if name not in RARE or os.environ.get("HOLDFAST_ALL_MUTANTS"))
WITHIN: Final = 2000
"""Histories in which every mutant must be found."""
WHOLE_JOB: Final = 75
"""Steps: seven checkpoints, and a pause after the sixth."""
ANNOUNCING: Final = JobKind(webhooks=True, whole_jobs=False, silent=False)
SILENT: Final = JobKind(webhooks=True, whole_jobs=True, silent=True)

pytestmark = pytest.mark.timeout(900)


def simulate(*words: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Play in a separate process, without coverage's tracing, which would double the time."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "simulation.run", *words]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def summary(played: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert played.stdout, played.stderr
    found: dict[str, Any] = json.loads(played.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("first", range(0, HISTORIES, AT_A_TIME))
def test_every_invariant_holds(first: int) -> None:
    """All invariants hold in every history, after every event and at its end; a failure prints the shrunk history."""
    played = simulate("--seeds", f"{first}:{first + AT_A_TIME}", "--processes", "1")
    assert played.returncode == 0, played.stdout + played.stderr
    assert summary(played)["histories"] == AT_A_TIME


def test_the_seed_alone_decides() -> None:
    """The same seed gives an identical history in another process with another hash seed."""
    first, second = (simulate("--seeds", "11", hash_seed=hash_seed) for hash_seed in ("1", "2"))
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) > 50


@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_bug_is_found(name: str) -> None:
    """Each mutant is found within WITHIN histories, under the name of an invariant that it breaks."""
    played = simulate("--seeds", f"0:{WITHIN}", "--processes", "1", "--mutant", name, "--as-found")
    assert played.returncode == 1, f"{name} was not found in {WITHIN} histories\n{played.stdout}{played.stderr}"
    assert summary(played)["invariant"] in mutants.found_as(name)


@pytest.mark.usefixtures("_untraced", "_prepared")
@pytest.mark.parametrize("kind", [ANNOUNCING, SILENT], ids=["announcing", "silent"])
@pytest.mark.parametrize("what", ["crash before", "crash after", "answer lost", "hang before", "hang after"])
def test_at_every_call_of_a_whole_job(what: str, kind: JobKind, tmp_path: Path) -> None:
    """The job ends well if, at any one of its port calls, the process dies or hangs, or the answer is lost.

    `make test` plays every third call, `make mutants` all of them.
    """
    calls = quiet(tmp_path, kind).calls
    assert calls > 100
    for nth in range(1, calls + 1, 1 if os.environ.get("HOLDFAST_ALL_MUTANTS") else 3):
        outcome = quiet(tmp_path, kind, Fault(what, call=ANY, nth=nth, lasts_s=60.0))
        assert not outcome.violation, outcome.timeline()


@pytest.mark.usefixtures("_untraced", "_prepared")
@pytest.mark.parametrize("kind", [ANNOUNCING, SILENT], ids=["announcing", "silent"])
def test_a_whole_job_pauses_and_resumes(kind: JobKind, tmp_path: Path) -> None:
    """The job of the test above pauses, resumes, saves six checkpoints, completes and reports its changes."""
    told = "\n".join(what for _, _, what in quiet(tmp_path, kind).history)
    for part in ("paused_for_timeout", "epoch 2", "checkpoint 6", "completed", "hears that job0:2:"):
        assert part in told


def quiet(root: Path, kind: JobKind, *faults: Fault) -> HistoryResult:
    """Play one job with two workers, a receiver of webhooks, and only the given faults."""
    return play(1, root, faults, steps=WHOLE_JOB, workers=2, kind=kind)


@pytest.fixture
def _prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("lifecycle.attempt.supervisor.TICK_S", 1.0)
    logging.disable(run.SILENT)
    yield
    logging.disable(logging.NOTSET)  # which also clears the loggers' level caches
