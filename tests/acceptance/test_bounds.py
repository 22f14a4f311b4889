"""Real workers with programs, messages and disks that go out of bounds: the worker carries on, and says why."""

import textwrap
from collections.abc import Iterator

import pytest
from support.process_cluster import ProcessCluster
from support.running_workloads import wait_for

from lifecycle.checkpoint.tree import discard_tree
from lifecycle.job_record import JobRecord
from lifecycle.record.message import announce
from lifecycle.states import State

pytestmark = pytest.mark.acceptance

HOSTILE = """
    import os, signal, sys, time
    control, state = os.environ["HOLDFAST_CONTROL_DIR"], os.environ["HOLDFAST_CHECKPOINT_DIR"] + "/state"
    if os.path.exists(state):
        sys.exit(0)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    os.mkfifo(control + "/progress")
    os.makedirs(control + "/announced/\\u00b2")
    os.mkfifo(control + "/announced/7")
    os.symlink("/dev/zero", control + "/announced/8.json")
    os.chdir(control + "/announced")
    for _ in range(3000):
        os.mkdir("d"); os.chdir("d")
    os.chdir(os.environ["HOLDFAST_OUTPUT_DIR"])
    open("ready", "w").close()
    while not stop:
        time.sleep(0.02)
    open(state, "w").write("saved")
"""


@pytest.fixture(autouse=True)
def _without_deep_folders(files: ProcessCluster) -> Iterator[None]:
    """Remove what pytest cannot, if a test fails."""
    yield
    discard_tree(files.home / "work")


def offer(files: ProcessCluster, program: str) -> None:
    """Write the program and the workloads file of the cluster, and submit a job."""
    (files.home / "program.py").write_text(textwrap.dedent(program))
    (files.home / "workloads.toml").write_text('[job]\ncommand = ["{python}", "{here}/program.py"]\n')
    assert files.holdfast("submit", "--no-input", "a", "--workload", "job").returncode == 0


def test_a_worker_with_strange_control_files_can_be_drained(files: ProcessCluster) -> None:
    """Pipes, devices, odd names and 3,000 nested folders neither hang nor end the worker; a drain saves the state."""
    offer(files, HOSTILE)
    worker = files.worker(STATE_SAVING_INTERVAL="1h", STOP_GRACE="8s")
    wait_for(lambda: list((files.home / "work").glob("*/a/output/ready")))
    worker.terminate()
    assert worker.wait(30) == 0, files.log_of(worker)
    record = files.record("a")
    assert record.state is State.RELEASED
    assert record.checkpoint is not None
    files.worker("--max-jobs", "1")
    assert files.settled("a").state is State.COMPLETED


def test_a_worker_of_another_prefix_ends_with_78_and_deletes_nothing(files: ProcessCluster) -> None:
    """It says whose messages the queue holds; the worker that they belong to finds all of them."""
    for number in range(12):
        files.submit(f"job{number}", "1\n3\n")
    lost = files.worker(PREFIX="elsewhere")
    assert lost.wait(60) == 78
    assert "prefix ''" in files.log_of(lost)
    files.worker()
    for number in range(12):
        assert files.settled(f"job{number}").state is State.COMPLETED


def test_enormous_progress_harms_no_command(files: ProcessCluster) -> None:
    """`status`, `report` and `show` work for all jobs while one program reports numbers that no record holds."""
    program = """
        import os
        control = os.environ["HOLDFAST_CONTROL_DIR"]
        open(control + "/progress", "w").write('{"done": 1, "total": 1' + "0" * 400 + "}")
        print("done")
    """
    offer(files, program)
    files.submit("good", "1\n30\n")
    files.env.queue.send([announce(JobRecord("bad", "w"), 10**300)])
    files.worker()
    for job in ("a", "good"):
        assert files.settled(job).state is State.COMPLETED
    for words in (("status",), ("status", "--json"), ("report", "--by", "job"), ("show", "a"), ("reconcile",)):
        done = files.holdfast(*words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
