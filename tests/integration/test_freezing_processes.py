"""Freezing a tree of processes: nothing runs meanwhile, and nothing has changed afterwards."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.running_workloads import Start, ended, gone, made_dirs, python, starting, wait_for

from adapters.process.process_tree import Process, children, descendants
from lifecycle.ports.runner import JobDirs, RunningWorkload, Workload

SUPERVISOR = "process_supervisor.py"
FORKING = """
    import os, time
    def run(lane):  # starts one short process after the other, each of which writes
        while True:
            child = os.fork()
            if child == 0:
                with open(f"output/lane{lane}", "a") as file:
                    file.write("x")
                time.sleep(0.001)
                os._exit(0)
            os.waitpid(child, 0)
    for lane in range(6):
        if os.fork() == 0:
            run(lane)
    time.sleep(1000)
"""
ORPHAN_THREAD = """
    import ctypes, threading, time
    def work():
        turn = 0
        while True:
            turn += 1
            with open("output/turns", "w") as file:
                file.write(str(turn))
            time.sleep(0.001)
    threading.Thread(target=work).start()
    while True:
        try:
            if open("output/turns").read():
                break
        except OSError:
            pass
    ctypes.CDLL(None).syscall(60 if __import__("platform").machine() == "x86_64" else 93, 0)  # only this thread exits
"""
MAPPING = """
    import mmap, os, time
    with open("checkpoint/mapped", "wb") as file:
        file.truncate(1 << 16)
    file = open("checkpoint/mapped", "r+b")
    memory = mmap.mmap(file.fileno(), 0)
    private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
    read_only = open("checkpoint/read", "w+b")
    read_only.write(b"x" * 4096)
    read_only.close()
    shared = mmap.mmap(os.open("checkpoint/read", os.O_RDONLY), 0, prot=mmap.PROT_READ)
    appended = open("checkpoint/log", "a")
    written = open("checkpoint/json", "w")
    gone = open("checkpoint/gone", "w")
    os.rename("checkpoint/gone", "checkpoint/renamed")
    open("output/ready", "w").close()
    time.sleep(1000)
"""


@pytest.fixture
def dirs(tmp_path: Path) -> JobDirs:
    return made_dirs(tmp_path)


@pytest.fixture
def start(dirs: JobDirs) -> Iterator[Start]:
    with starting(dirs) as run:
        yield run


def tree() -> list[Process]:
    """Return the test's process supervisor and all processes below it, parents first."""
    by_parent = children()
    ours = [process for process in by_parent.get(os.getpid(), []) if SUPERVISOR in command_line(process)]
    newest = max(ours, key=lambda process: process.start, default=None)
    return [newest, *descendants(newest.pid, by_parent)] if newest else []


def command_line(process: Process) -> str:
    """Return the command line of a process; empty if it has exited."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_frozen(child: RunningWorkload, folder: Path) -> None:
    """Freeze, check that nothing writes below *folder*, and thaw."""
    deadline = time.monotonic() + 30
    while why := child.freeze():
        assert time.monotonic() < deadline, why
    before = contents(folder)
    time.sleep(0.1)
    assert contents(folder) == before
    assert child.thaw()
    wait_for(lambda: contents(folder) != before)


def test_a_tree_that_forks_is_stopped_as_a_whole(start: Start, dirs: JobDirs) -> None:
    """Processes that are started during the scan are found by the next one."""
    child = start(*python(FORKING))
    wait_for(lambda: len(list(dirs.output.iterdir())) == 6)
    for _ in range(5):
        assert_frozen(child, dirs.output)


def test_a_thread_whose_main_thread_has_exited_is_stopped(start: Start, dirs: JobDirs) -> None:
    """A process that shows the state Z may have a thread that writes: it is stopped and checked like any other."""
    child = start(*python(ORPHAN_THREAD))
    wait_for(lambda: [process for process in tree() if process.exited])
    for _ in range(5):
        assert_frozen(child, dirs.output)


def test_a_shell_with_job_control_does_not_notice(start: Start, dirs: JobDirs) -> None:
    """A shell that waits for a child does not learn that it was stopped, because the shell is stopped before it."""
    child = start("bash", "-c", "set -m; sleep 3; echo AFTER; date +%s > output/after")
    wait_for(lambda: len(tree()) == 3)
    began = time.time()
    for _ in range(3):
        assert child.freeze() is None
        time.sleep(0.05)
        assert child.thaw()
    code, tail = ended(child)
    assert (code, tail) == (0, "AFTER")
    assert int((dirs.output / "after").read_text()) >= int(began) + 2


def test_a_process_that_was_stopped_stays_stopped(start: Start) -> None:
    """Only what the freeze has stopped is continued."""
    child = start("bash", "-c", "sleep 1000 & sleep 1001 & wait")
    wait_for(lambda: len(tree()) == 4)
    stopped, running = (process for process in tree() if "sleep" in process.names())
    os.kill(stopped.pid, signal.SIGSTOP)
    wait_for(stopped.is_stopped)
    assert child.freeze() is None
    assert running.is_stopped()
    assert child.thaw()
    wait_for(lambda: not running.is_stopped())
    assert stopped.is_stopped()


def test_a_capture_is_of_no_use_if_a_process_was_continued(start: Start) -> None:
    """If anyone else continues a process meanwhile, `thaw` says so."""
    child = start("sleep", "1000")
    wait_for(lambda: len(tree()) == 2)
    assert child.freeze() is None
    os.kill(tree()[1].pid, signal.SIGCONT)
    wait_for(lambda: not tree()[1].is_stopped())
    assert not child.thaw()


def test_a_task_that_waits_in_the_kernel_prevents_a_freeze(start: Start, dirs: JobDirs) -> None:
    """A parent in vfork is in state D until its child runs a program: the freeze fails, says why, and all run on."""
    child = start(
        *python("""
        import ctypes, time
        if ctypes.CDLL(None).vfork() == 0:
            while True:
                with open("output/turn", "a") as file:
                    file.write("x")
                time.sleep(0.01)
    """)
    )
    turns = dirs.output / "turn"
    wait_for(turns.exists)
    problem = child.freeze()
    assert problem is not None
    assert "state D" in problem
    assert not child.thaw()
    before = turns.stat().st_size
    wait_for(lambda: turns.stat().st_size > before)


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
def test_a_frozen_job_does_not_outlive(victim: str, dirs: JobDirs) -> None:
    """If the worker dies, the process supervisor kills what is frozen; if that dies, the worker does."""
    text = """
        import os, sys, time
        sys.path[:0] = {paths!r}
        from pathlib import Path
        from support.running_workloads import starting
        from lifecycle.ports.runner import JobDirs
        with starting(JobDirs(Path({root!r}))) as start:
            child = start("bash", "-c", "sleep 1000 & wait")
            time.sleep(0.5)
            assert child.freeze() is None
            print("frozen", flush=True)
            while child.poll().exited is None:
                time.sleep(0.01)
            print("gone", flush=True)
            time.sleep(1000)
    """
    script = textwrap.dedent(text).format(paths=sys.path, root=str(dirs.root))
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "frozen\n"
    below = descendants(worker.pid, children())
    assert len(below) == 3
    try:
        if victim == "worker":
            worker.kill()
        else:
            below[0].send(signal.SIGKILL)
            assert worker.stdout.readline() == "gone\n"
        assert all(gone(process.pid) for process in below)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def test_a_freeze_does_not_wait_for_the_console(start: Start) -> None:
    """Output that the job has written before the freeze is kept for later; the freeze ends at its limit anyway."""
    workload = Workload("w", ("sh", "-c", "while :; do echo line; done"), freeze_limit=timedelta(seconds=0.3))
    child = start(workload=workload)
    assert child.freeze() is None
    shell = tree()[1]
    assert shell.is_stopped()
    wait_for(lambda: not shell.is_stopped())
    assert not child.thaw()


def test_files_in_use_are_found(start: Start, dirs: JobDirs) -> None:
    """A shared writable mapping counts as mapped, and a descriptor for writing as writing, unless it appends."""
    child = start(*python(MAPPING))
    wait_for((dirs.output / "ready").exists)
    used = child.files_in_use()
    assert not used.unreadable

    def found(name: str) -> tuple[bool, bool]:
        path = dirs.checkpoint / name
        seen = path.stat()
        numbers = (seen.st_dev, seen.st_ino)
        return used.is_mapped(path, *numbers), used.is_writing(path, *numbers)

    assert found("mapped") == (True, True)
    assert found("read") == (False, False)
    assert found("log") == (False, False)
    assert found("json") == (False, True)
    assert found("renamed") == (False, True)


def test_a_mapping_outlives_its_descriptor_and_its_main_thread(start: Start, dirs: JobDirs) -> None:
    """A file stays mapped after it was closed, and its maps are found in the thread that is left."""
    child = start(
        *python("""
        import ctypes, mmap, platform, threading, time
        with open("checkpoint/mapped", "wb") as file:
            file.truncate(1 << 16)
        with open("checkpoint/mapped", "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        threading.Thread(target=time.sleep, args=(1000,)).start()
        ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)
    """)
    )
    wait_for(lambda: [process for process in tree() if process.exited])
    path = dirs.checkpoint / "mapped"
    used = child.files_in_use()
    assert not used.unreadable
    assert used.is_mapped(path, path.stat().st_dev, path.stat().st_ino)


def test_processes_that_cannot_be_examined_may_use_any_file(
    start: Start, dirs: JobDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If maps cannot be read, every file counts as mapped and open."""
    child = start("sleep", "1000")
    wait_for(lambda: len(tree()) == 2)
    real = Path.read_text

    def refuse(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "maps":
            raise PermissionError(13, "no", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    used = child.files_in_use()
    assert used.unreadable
    assert used.is_mapped(dirs.checkpoint / "any", 1, 2)
    assert used.is_writing(dirs.checkpoint / "any", 1, 2)
