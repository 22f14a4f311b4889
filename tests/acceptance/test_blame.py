"""Real workers with a useless checkpoint, and with an image that lacks the program."""

import signal
import textwrap
from pathlib import Path

import pytest
from support.process_cluster import ProcessCluster
from support.running_workloads import wait_for

from lifecycle.states import State

pytestmark = pytest.mark.acceptance

TORN_ON_LEAVE = """
    import os, signal, sys, time
    d, out = os.environ["HOLDFAST_CHECKPOINT_DIR"], os.environ["HOLDFAST_OUTPUT_DIR"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def replace(name, text):
        open(d + "/part", "w").write(text)
        os.rename(d + "/part", d + "/" + name)

    step = 0
    if os.path.exists(d + "/model"):
        model, optimizer = open(d + "/model").read(), open(d + "/optimizer").read()
        if model != optimizer:
            sys.exit("checkpoint corrupted: model %s, optimizer %s" % (model, optimizer))
        step = int(model)
    while step < 8:
        step += 1
        replace("model", str(step))
        if step == 5 and os.environ["HOLDFAST_ATTEMPT"] == "1":
            open(out + "/midsave", "w").close()
            time.sleep(1000)
        replace("optimizer", str(step))
        time.sleep(0.5)
    open(out + "/output.txt", "w").write(str(step))
"""


@pytest.fixture
def files(tmp_path: Path) -> ProcessCluster:
    made = ProcessCluster(tmp_path, {"STATE_SAVING_INTERVAL": "0.2s"})
    (tmp_path / "program.py").write_text(textwrap.dedent(TORN_ON_LEAVE))
    (tmp_path / "workloads.toml").write_text(
        '[train]\ncommand = ["{python}", "{here}/program.py"]\nquiet = "0.1s"\nfreeze = false\n'
    )
    return made


def test_a_checkpoint_that_the_program_tore_on_leaving_is_given_up(files: ProcessCluster) -> None:
    """A launcher ends its trainer in the middle of a save; after two failed resumes the checkpoint before is used."""
    assert files.holdfast("submit", "--no-input", "a", "--workload", "train").returncode == 0
    try:
        first = files.worker()
        wait_for(lambda: list((files.home / "work").glob("*/a/output/midsave")))
        files.until("a", lambda record: record.checkpoint is not None)
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
        torn = files.record("a").checkpoint
        files.worker()
        record = files.settled("a")
    finally:
        files.close()
    assert record.state is State.COMPLETED
    assert files.output("a") == "8"
    assert torn is not None
    assert [attempt.outcome for attempt in record.attempts] == ["drained", *["workload_failed"] * 2, "completed"]
    assert [attempt.resumed_from for attempt in record.attempts[1:3]] == [torn.seq] * 2
    used = record.attempts[3].resumed_from
    assert used is not None
    assert used < torn.seq


def test_a_worker_without_the_workload_fails_no_job(files: ProcessCluster, tmp_path: Path) -> None:
    """A worker started in the wrong folder leaves twenty jobs to others and says so."""
    (tmp_path / "workloads.toml").write_text('[train]\ncommand = ["true"]\n')
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "broken.toml").write_text('[train]\ncommand = ["no-such-program"]\n')
    jobs = [f"j{number}" for number in range(20)]
    assert files.holdfast("submit", "--no-input", *jobs, "--workload", "train").returncode == 0
    try:
        wrong = [files.worker(WORKLOADS=str(tmp_path / name)) for name in ("empty.toml", "broken.toml")]
        for job in jobs:
            files.until(job, lambda record: len(record.misfits.seen) > 0)
        said = files.holdfast("status", "j3").stdout
        for worker in wrong:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        files.worker()
        records = [files.settled(job) for job in jobs]
    finally:
        files.close()
    assert "waits for a node that can run it: 1 image lack" in said
    assert all((record.state, record.failures) == (State.COMPLETED, 0) for record in records)
