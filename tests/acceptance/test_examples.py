"""The examples: each is killed twice, and gives the same result as an uninterrupted run.

Those that need more than Python run only if it is installed: HOLDFAST_EXAMPLES_PYTHON names an interpreter that has
`examples/*/requirements.txt`, which `make examples` provides. The shell example needs nothing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from support.process_cluster import ProcessCluster

from lifecycle.job_record import CheckpointRef, JobRecord

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PYTHON: Final = os.environ.get("HOLDFAST_EXAMPLES_PYTHON", sys.executable)
KILLS: Final = 2


def has(module: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0


def has_another_than(before: CheckpointRef | None) -> Callable[[JobRecord], bool]:
    """Return the condition that a record has a checkpoint, and another than *before*."""
    return lambda record: record.checkpoint not in (None, before)


def carried(cluster: ProcessCluster, example: str, workload: str, *, kills: int, **params: object) -> Path:
    """Run a job to its end, killing its worker several times after a new checkpoint, and download its outputs."""
    job = f"{workload}-{kills}"
    given = {"STATE_SAVING_INTERVAL": 1, **params}
    submitted = cluster.holdfast(
        "submit",
        "--no-input",
        job,
        "--workload",
        workload,
        *(word for k, v in given.items() for word in ("--param", f"{k}={v}")),
    )
    assert submitted.returncode == 0, submitted.stderr
    path = os.pathsep.join((str(Path(PYTHON).parent), os.environ["PATH"]))
    settings = {"WORKLOADS": str(EXAMPLES / example / "workloads.toml"), "PATH": path}
    for _ in range(kills):
        before = cluster.record(job).checkpoint
        worker = cluster.worker(**settings)
        cluster.until(job, has_another_than(before), patience_s=120)
        worker.kill()
        worker.wait()
    last = cluster.worker("--max-jobs", "1", **settings)
    record = cluster.until(job, lambda record: record.is_settled, patience_s=300)
    assert last.wait(60) == 0
    assert [attempt.outcome for attempt in record.attempts] == ["vanished"] * kills + ["completed"]
    assert all(attempt.resumed_step is not None for attempt in record.attempts[1:])
    assert record.progress.done == record.progress.total
    assert cluster.holdfast("verify", job).returncode == 0
    assert cluster.holdfast("download", "out", job).returncode == 0
    return cluster.home / "out" / job / "output"


def test_ten_lines_of_sh(files: ProcessCluster) -> None:
    """A shell script that does not know Holdfast resumes with its state, its growing log and its result."""
    output = carried(files, "shell", "count", kills=KILLS, steps=120, seconds=0.05)
    assert (output / "result").read_text() == f"{sum(n * n for n in range(1, 121))}\n"
    numbers = [int(line.split()[0]) for line in (output / "steps.log").read_text().splitlines()]
    assert numbers == list(range(1, 121))


@pytest.mark.skipif(not has("openmm"), reason="needs openmm: make examples")
def test_openmm_gives_the_same_to_the_last_bit(files: ProcessCluster) -> None:
    """Energies and frames are identical on the reference platform."""
    params = {"steps": 3000, "every": 10}
    broken = carried(files, "openmm", "argon", kills=KILLS, **params)
    whole = carried(files, "openmm", "argon", kills=0, **params)
    for name in ("energy.txt", "trajectory.xyz"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert len((whole / "energy.txt").read_text().splitlines()) == 300


@pytest.mark.skipif(not has("torch"), reason="needs torch: make examples")
def test_pytorch_gives_the_same_loss_curve(files: ProcessCluster) -> None:
    """Optimizer, scheduler, random numbers and data position all continue."""
    params = {"steps": 400, "pause": 0.02}
    broken = carried(files, "pytorch", "finetune", kills=KILLS, **params)
    whole = carried(files, "pytorch", "finetune", kills=0, **params)
    curve = (whole / "loss.txt").read_text()
    assert (broken / "loss.txt").read_text() == curve
    losses = [float(line.split()[1]) for line in curve.splitlines()]
    assert len(losses) == 400
    assert sum(losses[-20:]) < sum(losses[:20])


@pytest.mark.skipif(shutil.which("gmx") is None, reason="needs GROMACS: apt-get install gromacs")
def test_gromacs_continues_from_its_own_checkpoint(files: ProcessCluster, tmp_path: Path) -> None:
    """`mdrun -cpi -append` continues its checkpoints and growing files, to the same last frame."""
    prepared = tmp_path / "input"
    subprocess.run(["sh", str(EXAMPLES / "gromacs" / "prepare.sh"), str(prepared), "20000"], check=True)
    params = {"nsteps": 20000, "minutes": 0.02, "threads": 1}
    outputs = []
    for kills in (KILLS, 0):
        for job in (f"mdrun-{kills}",):
            key = f"{files.env.layout.job(job).input}md.tpr"
            files.env.store.put_file(key, prepared / "md.tpr")
        outputs.append(carried(files, "gromacs", "mdrun", kills=kills, **params))
    broken, whole = outputs
    assert (broken / "md.gro").read_bytes() == (whole / "md.gro").read_bytes()
    assert energies(broken) == energies(whole)


def energies(output: Path) -> list[str]:
    """Return the total energy over time, as printed by gmx."""
    told = output / "energy.xvg"
    subprocess.run(
        ["gmx", "-quiet", "energy", "-f", str(output / "md.edr"), "-o", str(told)],
        input="Total-Energy\n",
        text=True,
        check=True,
        capture_output=True,
    )
    return [line for line in told.read_text().splitlines() if line[:1] not in "#@"]
