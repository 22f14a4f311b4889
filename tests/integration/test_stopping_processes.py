"""Stopping a tree of processes: the right ones get the signal, and none survives."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
from support.running_workloads import Start, alive, gone, made_dirs, python, starting, until, wait_for

from adapters.process.process_tree import children, descendants, find
from lifecycle.ports.runner import Exit, JobDirs, RunningWorkload, StopScope, Workload

TRAINER = """
    import os, signal, subprocess, sys, time
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    loaders = [subprocess.Popen(["sleep", "1000"]) for _ in range({loaders})]
    half = open("checkpoint/half", "w")
    open("output/loaders", "w").write(" ".join(str(loader.pid) for loader in loaders))
    os.rename("output/loaders", "output/ready")
    while not asked:
        time.sleep(0.01)
    time.sleep(0.5)
    if any(loader.poll() is not None for loader in loaders):
        sys.exit("a loader died")
    open("checkpoint/state", "w").write(str(len(asked)))
    for loader in loaders[:1]:
        loader.kill()
    sys.exit({code})
"""
DAEMON = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open("output/part", "w").write(str(os.getpid()))
            os.rename("output/part", "output/pid")
            time.sleep(1000)
        os._exit(0)
    os.wait()
    while not os.path.exists("output/pid"):
        time.sleep(0.01)
"""


def end(child: RunningWorkload) -> Exit:
    exited = until(child, lambda report: report.exited).exited
    assert exited is not None
    return exited


def pid_in(path: Path) -> int:
    wait_for(path.exists)
    return int(path.read_text())


def trainer(dirs: JobDirs, *, code: int = 0, loaders: int = 2) -> str:
    """Write a trainer that saves on SIGTERM, unless it loses a loader; return its path."""
    text = textwrap.dedent(TRAINER).replace("{code}", str(code)).replace("{loaders}", str(loaders))
    path = dirs.root / "train.py"
    path.write_text(text)
    return str(path)


def stopped(child: RunningWorkload, dirs: JobDirs) -> Exit:
    wait_for((dirs.output / "ready").exists)
    child.stop()
    child.stop()
    return end(child)


WRAPPERS = {
    "none": ("{python}", "{script}"),
    "bash": ("bash", "-c", "{python} {script}; echo after"),
    "sh": ("sh", "-c", "{python} {script}; echo after"),
    "sh in bash": ("bash", "-c", "sh -c '{python} {script}; true'; echo after"),
    "background": ("bash", "-c", "{python} {script} & wait"),
    "left behind": ("bash", "-c", "({python} {script} &); sleep 1000"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("code", [0, 75])
def test_a_program_saves_behind_any_shell_with_its_own_children_intact(
    start: Start, dirs: JobDirs, wrapper: str, code: int
) -> None:
    """The program gets the stop signal once and its children do not; the end is reported after it has saved."""
    child = start(*WRAPPERS[wrapper], script=trainer(dirs, code=code))
    exited = stopped(child, dirs)
    assert (dirs.checkpoint / "state").read_text() == "1"
    assert not exited.writing
    assert exited.clean == (wrapper != "left behind")  # the sleep that the shell waits for dies of the signal
    assert exited.code == (code if wrapper == "none" else 128 + signal.SIGTERM)
    assert all(gone(int(pid)) for pid in (dirs.output / "ready").read_text().split())


def test_a_shell_that_passes_the_signal_on_may_do_so_alone(start: Start, dirs: JobDirs) -> None:
    """With the scope *leader* the program gets one signal, not two."""
    script = "trap 'kill -TERM $!' TERM; {python} {script} & wait; wait"
    workload = Workload("w", ("bash", "-c", script), stop=StopScope.LEADER)
    exited = stopped(start(workload=workload, script=trainer(dirs)), dirs)
    assert (dirs.checkpoint / "state").read_text() == "1"
    assert exited.clean


def test_the_whole_group_is_signalled_if_declared(start: Start, dirs: JobDirs) -> None:
    """With the scope *group* the program's children get the signal too."""
    workload = Workload("w", ("{python}", "{script}"), stop=StopScope.GROUP)
    exited = stopped(start(workload=workload, script=trainer(dirs)), dirs)
    assert (exited.code, exited.tail) == (1, "a loader died")


def test_a_program_that_dies_of_the_signal_leaves_its_children_time(start: Start, dirs: JobDirs) -> None:
    """If the program dies of the signal, its children get it too, with time to save."""
    launcher = "import subprocess; subprocess.call(['{python}', '{script}'])"
    exited = stopped(start("{python}", "-c", launcher, script=trainer(dirs, loaders=0)), dirs)
    assert exited.code == 128 + signal.SIGTERM
    assert (dirs.checkpoint / "state").read_text() == "1"


def _runs(ancestor: int, program: str) -> bool:
    return any(program in process.names() for process in descendants(ancestor, children()))


@pytest.mark.parametrize(
    "command", [("sleep", "1000"), ("bash", "-c", "sleep 1000; true")], ids=["leader", "behind bash"]
)
def test_a_death_by_the_stop_signal_is_not_clean(start: Start, command: tuple[str, ...]) -> None:
    """Death by the stop signal is not a clean exit, for the first process and for a program behind a shell."""
    before = {process.pid for process in children().get(os.getpid(), ())}
    child = start(*command)
    (supervisor,) = {process.pid for process in children()[os.getpid()]} - before
    wait_for(partial(_runs, supervisor, "sleep"))
    child.stop()
    assert not end(child).clean


REWRITER = """
    import os, time
    while True:
        with open("checkpoint/state", "w") as file:
            file.write("first half, ")
            file.flush()
            time.sleep({writes_s})
            file.write("second half")
        open("output/ready", "a").close()
        time.sleep(0.04)
"""


@pytest.mark.parametrize("ignores", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"])
def test_no_file_is_cut_off_if_that_can_be_avoided(tmp_path: Path, ignores: str) -> None:
    """A program that dies of a signal does so while it has no file of its state open for writing."""
    for run in range(4):
        dirs = made_dirs(tmp_path / str(run))
        with starting(dirs) as start:
            child = start(*python(ignores + textwrap.dedent(REWRITER).replace("{writes_s}", "0.04")))
            wait_for((dirs.output / "ready").exists)
            time.sleep(0.01 * run)
            child.stop()
            if ignores:
                child.kill()
            exited = end(child)
        assert (exited.clean, exited.writing) == (False, False)
        assert (dirs.checkpoint / "state").read_text() == "first half, second half"


def test_a_file_that_is_cut_off_is_reported(start: Start, dirs: JobDirs) -> None:
    """A file that is always open for writing is reported as possibly cut off."""
    child = start(*python(textwrap.dedent(REWRITER).replace("{writes_s}", "1000")))
    wait_for((dirs.checkpoint / "state").exists)
    child.stop()
    assert end(child).writing


def test_leftovers_have_two_seconds_to_exit(start: Start, dirs: JobDirs) -> None:
    """The end is reported once the remaining processes are gone, so their last writes belong to the outputs."""
    script = "trap 'echo last >> output/log; exit' TERM; touch output/ready; while :; do sleep 0.02; done"
    child = start("bash", "-c", f"bash -c {script!r} & while [ ! -e output/ready ]; do sleep 0.02; done")
    exited = end(child)
    assert (exited.code, exited.clean) == (0, True)
    assert (dirs.output / "log").read_text() == "last\n"


def test_leftovers_that_ignore_signals_are_killed(start: Start, dirs: JobDirs) -> None:
    """Remaining processes are killed after two seconds."""
    script = "trap '' TERM; echo $$ > output/part; mv output/part output/pid; sleep 1000"
    child = start("bash", "-c", f"setsid bash -c {script!r} & while [ ! -e output/pid ]; do sleep 0.02; done")
    assert not end(child).clean
    assert not alive(pid_in(dirs.output / "pid"))


@pytest.mark.parametrize("how", ["exits", "killed"])
def test_a_daemon_ends_with_the_job(start: Start, dirs: JobDirs, how: str) -> None:
    """A daemon that forked twice into its own session ends with the job."""
    last = "" if how == "exits" else "time.sleep(1000)"
    child = start(*python(textwrap.dedent(DAEMON) + last))
    pid = pid_in(dirs.output / "pid")
    if how == "killed":
        child.kill()
        assert not alive(pid)
    end(child)
    assert not alive(pid)


def test_a_tree_that_forks_is_killed_to_the_last(start: Start, dirs: JobDirs) -> None:
    """A kill scans until no process is left, even if they fork into new sessions and exit."""
    program = """
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                while True:
                    os.setsid()
                    open("output/ready", "w").close()
                    time.sleep(0.03)
                    if os.fork():
                        os._exit(0)
        time.sleep(1000)  # runner-of-the-stopping-test
    """
    child = start(*python(program))
    wait_for((dirs.output / "ready").exists)
    child.kill()
    assert end(child).code == 128 + signal.SIGKILL
    assert subprocess.run(["pgrep", "-f", "runner-of-the-stopping-tes[t]"], check=False).returncode == 1


def test_a_signal_to_the_group_spares_the_supervisor(start: Start, dirs: JobDirs) -> None:
    """The exit code of a program that signals its whole process group is still reported."""
    child = start("bash", "-c", "trap '' TERM; kill -TERM 0; exit 5")
    assert end(child).code == 5


def test_a_chatty_program_is_killed_like_any_other(start: Start) -> None:
    """Commands are read even if the program writes constantly."""
    child = start("yes")
    time.sleep(0.3)
    child.kill()
    assert end(child).code == 128 + signal.SIGKILL


def test_processes_of_a_killed_supervisor_die_before_the_end_is_reported(tmp_path: Path) -> None:
    """The worker inherits and kills them, so no second attempt runs beside them."""
    dirs = made_dirs(tmp_path / "job")
    script = """
        import json, os, pathlib, sys, time, datetime
        from adapters.process.process_tree import children, find
        from adapters.process.runner import ProcessRunner
        from lifecycle.ports.runner import JobDirs, Launch, Workload
        dirs = JobDirs(pathlib.Path(sys.argv[1]))
        launch = Launch(
            workload=Workload("w", ("{python}", "-c", "{program}")), job="j", epoch=1, resumed=False,
            params={"program": sys.argv[2]}, saving_interval=datetime.timedelta(60), dirs=dirs,
        )
        child = ProcessRunner(environment=os.environ).start(launch)
        while not (dirs.output / "pid").exists():
            time.sleep(0.01)
        [supervisor] = children()[os.getpid()]
        daemon = int((dirs.output / "pid").read_text())
        [leader] = [each.pid for each in children()[supervisor.pid] if each.pid != daemon]
        os.kill(supervisor.pid, 9)
        while not (exited := child.poll().exited):
            time.sleep(0.01)
        left = [pid for pid in (leader, daemon) if find(pid)]
        print(exited.code, exited.clean, exited.stuck, left)
    """
    program = textwrap.dedent(DAEMON) + "time.sleep(1000)"
    command = [sys.executable, "-c", textwrap.dedent(script), str(dirs.root), program]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("137 False False []\n", "")


def test_the_kernel_spares_the_supervisor_when_memory_is_short(start: Start, dirs: JobDirs) -> None:
    """The process supervisor lowers its OOM score if allowed, and the workload keeps the worker's."""
    own = Path("/proc/self/oom_score_adj").read_text()
    child = start("bash", "-c", "cp /proc/self/oom_score_adj output/part; mv output/part output/score; sleep 1000")
    wait_for((dirs.output / "score").exists)
    assert (dirs.output / "score").read_text() == own
    supervisor = next(process.pid for process in children()[os.getpid()] if process.session == process.pid)
    assert Path(f"/proc/{supervisor}/oom_score_adj").read_text() in {"-900\n", own}
    child.kill()


def test_a_signal_reaches_no_other_process_with_the_same_id() -> None:
    """Start times are compared, so a reused process id gets no signal."""
    with subprocess.Popen(["sleep", "1000"]) as other:
        seen = find(other.pid)
        assert seen is not None
        seen.start -= 1
        assert not seen.send(signal.SIGKILL)
        assert other.poll() is None
        seen.start += 1
        assert seen.send(signal.SIGKILL)
