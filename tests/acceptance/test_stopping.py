"""Stops of real workers with real programs and real signals: each saves the state."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest
from support.process_cluster import ProcessCluster
from support.running_workloads import alive, gone, wait_for

from adapters.process.process_tree import children
from lifecycle.job_record import JobRecord
from lifecycle.states import State

pytestmark = pytest.mark.acceptance

TRAINER = """
    import os, signal, subprocess, sys, time
    state, stop = os.environ["HOLDFAST_CHECKPOINT_DIR"] + "/state", []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    loaders = [subprocess.Popen(["sleep", "1000"]) for _ in range(4)]
    if os.path.exists(state):
        open("output/resumed", "w").write(open(state).read())
        sys.exit(0)
    open("output/ready", "w").close()
    while not stop:
        time.sleep(0.02)
    time.sleep(0.5)
    if any(loader.poll() is not None for loader in loaders):
        sys.exit("a loader died")
    open(state, "w").write("saved once" if len(stop) == 1 else "saved again")
"""
RENAMER = """
    import os, time
    d = os.environ["HOLDFAST_CHECKPOINT_DIR"]
    if os.path.exists(d + "/state"):
        raise SystemExit(0)
    open(d + "/part", "w").write("x" * 100_000)
    os.rename(d + "/part", d + "/state")
    open("output/ready", "w").close()
    time.sleep(1000)
"""
HOLDER = """
    import os, subprocess, sys, time
    if os.environ["HOLDFAST_ATTEMPT"] != "1":
        pid = int(open("/{shared}/pid").read())
        open("output/beside", "w").write(str(os.path.exists("/proc/%d" % pid)))
        sys.exit(0)
    held = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    open("/{shared}/part", "w").write(str(held.pid))
    os.rename("/{shared}/part", "/{shared}/pid")
    time.sleep(1000)
"""
APPENDER = """
    import os, subprocess, time
    script = "trap 'sleep 0.5; printf last >> output/log; exit' TERM; touch output/ready; while :; do sleep 0.02; done"
    subprocess.Popen(["bash", "-c", script])
    while not os.path.exists("output/ready"):
        time.sleep(0.02)
    open("output/log", "a").write("first, ")
"""


def offer(
    files: ProcessCluster, program: str, *, command: str = '["{python}", "{here}/program.py"]', more: str = ""
) -> None:
    """Write the program and the workloads file of the cluster, and submit a job."""
    text = textwrap.dedent(program).replace("/{shared}", str(files.home))
    (files.home / "program.py").write_text(text)
    (files.home / "run.sh").write_text(f"set -e\nexport A=1\n{sys.executable} {files.home}/program.py\necho after\n")
    (files.home / "workloads.toml").write_text(f"[job]\ncommand = {command}\n{more}\n")
    assert files.holdfast("submit", "--no-input", "a", "--workload", "job").returncode == 0


def ready(files: ProcessCluster, name: str = "ready") -> None:
    wait_for(lambda: list((files.home / "work").glob(f"*/a/output/{name}")))


def text(files: ProcessCluster, name: str) -> str | None:
    stored = files.env.store.get(f"{files.env.layout.job('a').output}{name}")
    return stored.body.decode() if stored else None


def drained(files: ProcessCluster, **settings: str) -> JobRecord:
    """Start a worker, drain it once the program is ready, and return the record afterwards."""
    worker = files.worker(STATE_SAVING_INTERVAL="1h", STOP_GRACE="8s", **settings)
    ready(files)
    worker.terminate()
    assert worker.wait(30) == 0
    return files.record("a")


@pytest.mark.parametrize("command", ['"bash {here}/run.sh"', '"sh {here}/run.sh"'])
def test_a_trainer_with_data_loaders_saves_behind_a_shell(files: ProcessCluster, command: str) -> None:
    """The trainer gets one signal and keeps its loaders while it saves; the next attempt resumes."""
    offer(files, TRAINER, command=command)
    record = drained(files)
    assert record.state is State.RELEASED
    assert record.checkpoint is not None
    files.worker("--max-jobs", "1")
    files.settled("a")
    assert text(files, "resumed") == "saved once"


def test_a_program_without_a_handler_is_saved_as_it_left_its_files(files: ProcessCluster) -> None:
    """A program that replaces its state by renaming and dies of the signal gets a final snapshot."""
    offer(files, RENAMER)
    record = drained(files)
    assert record.checkpoint is not None
    assert record.checkpoint.bytes == 100_000


def test_a_drain_waits_for_the_upload_in_flight(files: ProcessCluster) -> None:
    """An upload in flight is committed even if nothing new is saved, and the next attempt resumes from it."""
    program = """
        import os, sys, time, holdfast
        job = holdfast.job()
        if job.resumed:
            sys.exit(0)
        with job.checkpoint(step=1) as directory:
            open(directory + "/state", "wb").write(os.urandom(4 << 20))
        while not job.should_stop:
            time.sleep(0.02)
        job.leave()
    """
    offer(files, program)
    worker = files.worker(STOP_GRACE="20s", UPLOAD_LIMIT="1M")
    files.until("a", lambda record: record.state is State.CHECKPOINTING or record.backlog)
    worker.terminate()
    assert worker.wait(30) == 0
    record = files.record("a")
    assert record.state is State.RELEASED
    assert record.checkpoint is not None
    assert record.checkpoint.step == 1


def test_a_process_in_its_own_session_ends_with_a_killed_worker(files: ProcessCluster) -> None:
    """The process supervisor finds and kills a process in another session."""
    offer(files, HOLDER)
    worker = files.worker()
    wait_for((files.home / "pid").exists)
    pid = int((files.home / "pid").read_text())
    worker.kill()
    worker.wait()
    assert gone(pid)


def test_no_attempt_begins_beside_what_a_killed_supervisor_left(files: ProcessCluster) -> None:
    """The worker inherits the supervisor's processes, and kills them before the attempt ends."""
    offer(files, HOLDER)
    worker = files.worker()
    wait_for((files.home / "pid").exists)
    assert alive(int((files.home / "pid").read_text()))
    [supervisor] = [each for each in children()[worker.pid] if b"process_supervisor" in _command_line(each.pid)]
    os.kill(supervisor.pid, signal.SIGKILL)
    files.settled("a")
    assert text(files, "beside") == "False"


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_grandchilds_last_writes_are_part_of_the_outputs(files: ProcessCluster) -> None:
    """The job is completed with all writes, and the worker continues."""
    offer(files, APPENDER)
    worker = files.worker("--max-jobs", "1")
    files.settled("a")
    assert worker.wait(30) == 0
    assert text(files, "log") == "first, last"
