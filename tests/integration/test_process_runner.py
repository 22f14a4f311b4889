"""Workloads as real processes: their environment, their reports and their ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path

import pytest
from support.running_workloads import PATIENCE_S, Start, ended, gone, python, until

from adapters.process.runner import ProcessRunner
from lifecycle.attempt.console_segments import KEPT, SEGMENT_BYTES, segments
from lifecycle.checkpoint.tree import discard_tree
from lifecycle.errors import PermanentError
from lifecycle.ports.runner import JobDirs, Launch, PassedVariables, RunningWorkload, Workload


@pytest.mark.parametrize("code", [0, 1, 65, 75, 255])
def test_an_exit_code_comes_through(start: Start, code: int) -> None:
    """The exit code is the program's, with the end of its output."""
    assert ended(start("sh", "-c", f"echo some words >&2; exit {code}")) == (code, "some words")


def test_a_signal_comes_through_as_128_and_its_number(start: Start) -> None:
    """A program killed by signal n has exit code 128 + n."""
    assert ended(start("sh", "-c", "kill -SEGV $$"))[0] == 128 + signal.SIGSEGV


def test_placeholders_are_filled_from_the_parameters_without_a_shell(start: Start, dirs: JobDirs) -> None:
    """The value of a parameter is one word, even if it contains spaces or shell syntax."""
    child = start("sh", "-c", 'printf %s "$1" > output/x', "sh", "{text}", text="a b; rm -rf $HOME")
    assert ended(child)[0] == 0
    assert (dirs.output / "x").read_text() == "a b; rm -rf $HOME"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("sh", "{missing}"), "needs the parameter 'missing'"),
        (("no-such-program",), "lacks program 'no-such-program'"),
        (("{",), "filled in"),
    ],
)
def test_what_cannot_be_started_is_said(start: Start, command: tuple[str, ...], reason: str) -> None:
    """A command that cannot be started is an error before anything runs."""
    with pytest.raises(PermanentError, match=reason):
        start(*command)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a\0b", "contains a NUL"), ("\ud800", "is no text"), ("x" * (128 << 10), "131072 bytes is longer than")],
)
def test_a_parameter_that_no_program_can_be_given_is_permanent(start: Start, text: str, reason: str) -> None:
    """It is the job's fault, and neither a crash of the worker nor a failure of its disk."""
    with pytest.raises(PermanentError, match=reason):
        start("true", "{text}", text=text)
    assert ended(start("true", "{text}", text="x" * ((128 << 10) - 1)))[0] == 0


def test_what_a_workload_is_given(start: Start, dirs: JobDirs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workload gets its directories, parameters and the SDK, but not the worker's secrets."""
    monkeypatch.setenv("AWS_KEY", "secret")
    monkeypatch.setenv("CLOUDFLARE_KEY", "secret")
    command = python(
        """
        import json, os, holdfast
        job = holdfast.job()
        seen = dict(os.environ, cwd=os.getcwd(), params=job.params, id=job.id)
        json.dump(seen, open(os.path.join(job.output_dir, "seen"), "w"))
        """
    )
    child = start(workload=Workload("w", command, environment={"COLOUR": "red"}), t=1)
    assert ended(child) == (0, "")
    seen = json.loads((dirs.output / "seen").read_text())
    assert (seen["cwd"], seen["params"], seen["id"], seen["COLOUR"]) == (str(dirs.root), {"t": 1}, "j", "red")
    assert seen["TMPDIR"] == str(dirs.temporary)
    assert (seen["HOLDFAST_ATTEMPT"], seen["HOLDFAST_RESUMED"]) == ("3", "0")
    assert not [name for name in seen if name.startswith(("AWS_", "CLOUDFLARE_"))]


def test_a_workload_gets_a_secret_only_if_it_names_it(dirs: JobDirs) -> None:
    """What may be a secret is withheld; `pass_environment` names exceptions, or all that a workload gets."""
    given = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HF_TOKEN": "hush",
        "BUCKET": "b",
        "HTTPS_PROXY": "http://me:hush@proxy:3128",
    }
    runner = ProcessRunner(environment=given, settings=("BUCKET", "LEASE"))
    for passed, names in (
        (PassedVariables(), {"PATH", "LANG"}),
        (PassedVariables(("HF_*", "BUCKET")), {"PATH", "LANG", "HF_TOKEN", "BUCKET"}),
        (PassedVariables(("PATH", "HTTPS_PROXY"), is_strict=True), {"PATH", "HTTPS_PROXY"}),
    ):
        command = ("sh", "-c", "env > $HOLDFAST_OUTPUT_DIR/seen")
        workload = Workload("w", command, pass_environment=passed)
        child = runner.start(Launch(workload, "j", 1, {}, False, timedelta(minutes=1), dirs))
        assert ended(child) == (0, "")
        seen = dict(line.split("=", 1) for line in (dirs.output / "seen").read_text().splitlines())
        assert seen.keys() & given.keys() == names


def test_progress_and_announced_checkpoints_are_seen(start: Start) -> None:
    """The newest announced checkpoint is reported, whole, and older ones are removed."""
    command = python(
        """
        import os, time, holdfast
        job = holdfast.job()
        for step in (1, 2):
            with job.checkpoint(step=step) as directory:
                open(os.path.join(directory, "state"), "w").write(str(step))
            job.progress(step, 10)
        time.sleep(60)
        """
    )
    child = start(workload=Workload("w", command))
    report = until(child, lambda report: report.done == 2 and report.announced)
    assert report.announced is not None
    assert (report.announced.number, report.announced.step, report.total) == (2, 2, 10)
    assert (report.announced.path / "state").read_text() == "2"
    assert [path.name for path in report.announced.path.parent.iterdir() if path.is_dir()] == ["2"]


def test_a_checkpoint_that_fails_is_not_announced(start: Start, dirs: JobDirs) -> None:
    """A checkpoint whose block raises is not announced, and leaves nothing."""
    command = python(
        """
        import holdfast
        with holdfast.job().checkpoint() as directory:
            open(directory + "/half", "w").write("x")
            raise ValueError
        """
    )
    assert ended(start(workload=Workload("w", command)))[0] == 1
    assert not [path for path in dirs.control.iterdir() if "staging" in path.name or path.name == "announced"]


def test_a_workload_is_told_to_save_and_to_leave(start: Start) -> None:
    """A request to save is a file, and a request to stop is the stop signal."""
    command = python(
        """
        import os, time, holdfast
        job = holdfast.job()
        job.progress(0)
        while not job.should_stop:
            if job.checkpoint_due():
                with job.checkpoint(step=7):
                    pass
            time.sleep(0.02)
        job.leave()
        """
    )
    child = start(workload=Workload("w", command))
    until(child, lambda report: report.done == 0)
    assert child.poll().announced is None
    child.ask_to_save()
    until(child, lambda report: report.announced)
    child.stop()
    child.stop()
    assert ended(child)[0] == 75


def test_another_stop_signal_is_used_where_declared(start: Start) -> None:
    """`stop_signal` replaces SIGTERM."""
    progress = "printf '{{\"done\": 1}}' > control/progress"
    script = f"trap 'exit 9' USR1; {progress}; while :; do sleep 0.05; done"
    child = start(workload=Workload("w", ("sh", "-c", script), stop_signal="SIGUSR1"))
    until(child, lambda report: report.done == 1)
    child.stop()
    assert ended(child)[0] == 9


GRANDCHILD = "sleep 1000 & echo $! > output/pid.part; mv output/pid.part output/pid; "


def grandchild(child: RunningWorkload, dirs: JobDirs) -> int:
    until(child, lambda _: (dirs.output / "pid").exists())
    return int((dirs.output / "pid").read_text())


def test_killing_ends_all_that_was_started(start: Start, dirs: JobDirs) -> None:
    """`kill` ends grandchildren too, and programs that ignore the stop signal."""
    child = start("sh", "-c", f"trap '' TERM; {GRANDCHILD} wait")
    pid = grandchild(child, dirs)
    child.stop()
    child.kill()
    assert gone(pid)
    assert ended(child)[0] == 137


def test_what_a_workload_leaves_running_ends_with_it(start: Start, dirs: JobDirs) -> None:
    """A background process does not outlive its job."""
    child = start("sh", "-c", f"{GRANDCHILD} exit 0")
    pid = grandchild(child, dirs)
    assert ended(child)[0] == 0
    assert gone(pid)


def test_a_workload_that_removes_its_control_folder_leaves_nothing_running(start: Start, dirs: JobDirs) -> None:
    """The exit code arrives and the group is killed, even without the control folder."""
    child = start("sh", "-c", f'{GRANDCHILD} rm -rf "$HOLDFAST_CONTROL_DIR"; exit 0')
    pid = grandchild(child, dirs)
    assert ended(child)[0] == 0
    assert gone(pid)


def test_a_workload_has_its_signals_as_they_come(start: Start, dirs: JobDirs) -> None:
    """The signals that Python ignores are not ignored in workloads."""
    child = start("sh", "-c", "grep SigIgn /proc/self/status > output/ignored")
    assert ended(child)[0] == 0
    ignored = int((dirs.output / "ignored").read_text().split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_nothing_outlives_a_worker_that_is_killed(dirs: JobDirs) -> None:
    """The process supervisor kills the whole group if the worker dies."""
    script = """
        import datetime, os, pathlib, sys, time
        from adapters.process.runner import ProcessRunner
        from lifecycle.ports.runner import JobDirs, Launch, RunningWorkload, Workload
        dirs = JobDirs(pathlib.Path(sys.argv[1]))
        launch = Launch(workload=Workload("w", ("sh", "-c", sys.argv[2])), job="j", epoch=1, params={}, resumed=False,
                        saving_interval=datetime.timedelta(60), dirs=dirs)
        child = ProcessRunner(environment=os.environ).start(launch)
        time.sleep(1000)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(dirs.root), f"{GRANDCHILD} wait"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as worker:
        deadline = time.monotonic() + PATIENCE_S
        while not (dirs.output / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(worker.pid, signal.SIGKILL)
    assert gone(int((dirs.output / "pid").read_text()))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"done": "x", "total": true}', "[" * 100_000])
def test_nonsense_from_a_workload_is_no_progress(start: Start, dirs: JobDirs, text: str) -> None:
    """Malformed reports of a workload do no harm."""
    child = start("sleep", "60")
    (dirs.control / "progress").write_text(text)
    (dirs.control / "announced").write_text("not a directory")
    report = child.poll()
    assert (report.done, report.total, report.announced, report.exited) == (None, None, None, None)


def test_output_is_kept_in_segments_and_only_the_newest(start: Start, dirs: JobDirs) -> None:
    """A verbose program cannot fill the disk; the end of its output is kept, in order."""
    lines = 1_300_000
    assert ended(start("seq", str(lines)))[0] == 0
    kept = segments(dirs)
    assert len(kept) <= KEPT + 1
    assert kept[0][0] > 0
    assert all(path.stat().st_size == SEGMENT_BYTES for _, path in kept[:-1])
    found = b"".join(path.read_bytes() for _, path in kept).split(b"\n")[1:]
    assert found[-2:] == [str(lines).encode(), b""]
    assert [int(line) for line in found[:-1]] == list(range(int(found[0]), lines + 1))


def test_progress_is_found_in_what_a_program_writes(start: Start) -> None:
    """Progress is found anywhere in the output, in overwritten lines and in lines that arrive in parts."""
    script = "printf 'step 3 of 40\\rstep 7 of 40\\nother\\nste'; sleep 0.3; printf 'p 12 of 40\\n'; sleep 30"
    pattern = r"step (?P<done>\d+) of (?P<total>\d+)"
    child = start(workload=Workload("w", ("sh", "-c", script), progress_pattern=pattern))
    until(child, lambda report: (report.done, report.total) == (7, 40))
    until(child, lambda report: (report.done, report.total) == (12, 40))


@pytest.mark.parametrize("text", ['{"done": 7, "total": 40}', "7 40", "7"])
def test_progress_is_found_in_a_file(start: Start, text: str) -> None:
    """A progress file contains JSON, or one or two numbers; the total may be a parameter of the job."""
    command = ("sh", "-c", f"echo '{text.replace('{', '{{').replace('}', '}}')}' > far; sleep 30")
    child = start(workload=Workload("w", command, progress_file="far", total="{steps}"), steps=40)
    until(child, lambda report: (report.done, report.total) == (7, 40))


def test_a_total_that_is_no_number_is_said(start: Start) -> None:
    """A total that is not a number is an error before anything runs."""
    with pytest.raises(PermanentError, match="total is 'many'"):
        start(workload=Workload("w", ("true",), total="{steps}"), steps="many")


def test_a_workloads_own_check(dirs: JobDirs, tmp_path: Path) -> None:
    """The check sees the snapshot; its exit code decides, and its output is the reason."""
    snapshot = tmp_path / "snapshot"
    (snapshot / "checkpoint").mkdir(parents=True)
    shell = ("sh", "-c", 'grep -q whole "$1/checkpoint/state" || { echo torn; exit 3; }', "sh", "{snapshot}")

    def verdict(check: tuple[str, ...] | None) -> str | None:
        workload = Workload("w", ("true",), check=check)
        return ProcessRunner(environment=os.environ).check(
            Launch(workload, "j", 1, {}, False, timedelta(60), dirs), snapshot
        )

    (snapshot / "checkpoint/state").write_text("half")
    check = tuple(word.replace("{ echo", "{{ echo").replace("; }", "; }}") for word in shell)
    assert verdict(check) == "its check says 3: torn"
    (snapshot / "checkpoint/state").write_text("whole")
    assert verdict(check) is None
    assert verdict(None) is None
    assert "lacks program 'no-such-check'" in (verdict(("no-such-check",)) or "")


WAITS = "; exec sleep 30"


def strange_control(start: Start, dirs: JobDirs, commands: str) -> RunningWorkload:
    """Start a program that does *commands* in its control directory, and wait until it has."""
    child = start("sh", "-c", f'cd "$HOLDFAST_CONTROL_DIR" && {commands}; touch ready{WAITS}')
    until(child, lambda _: (dirs.control / "ready").exists())
    return child


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "commands",
    [
        "mkfifo progress",
        "ln -s /dev/zero progress",
        "ln -s /proc/self/environ progress",
        "mkdir progress",
        "head -c 200000 /dev/zero | tr '\\0' 1 > progress",
        "mkfifo announced",
        "ln -s / announced",
        "mkdir announced announced/² announced/-1 announced/1e3 announced/99999999999999999999",
        "mkdir announced && mkfifo announced/1 && ln -s / announced/2 && touch announced/3",
        "mkfifo save-requested",
        "ln -s /nonexistent/file save-requested",
        "mkfifo ../console/000099.txt",
        "rm -rf ../control",
    ],
)
def test_strange_control_files_harm_nothing(start: Start, dirs: JobDirs, commands: str) -> None:
    """Pipes, links, devices, large files and odd names are no reports, and no call waits for them."""
    if "rm -rf" in commands:
        child = start("sh", "-c", f'rm -rf "$HOLDFAST_CONTROL_DIR"{WAITS}')
        until(child, lambda _: not dirs.control.exists())
    else:
        child = strange_control(start, dirs, commands)
    report = child.poll()
    assert (report.done, report.total, report.announced, report.exited) == (None, None, None, None)
    child.ask_to_save()
    child.kill()
    assert child.poll().exited is not None


def test_a_deeply_nested_announcement_is_removed_when_the_next_comes(start: Start, dirs: JobDirs) -> None:
    """Three thousand folders in one another are no deeper than the worker can remove."""
    command = python(
        """
        import os, time
        control = os.environ["HOLDFAST_CONTROL_DIR"]
        os.makedirs(f"{control}/deep")
        os.chdir(f"{control}/deep")
        for _ in range(3000):
            os.mkdir("d"); os.chdir("d")
        os.mkdir(f"{control}/announced")
        os.rename(f"{control}/deep", f"{control}/announced/1")
        os.mkdir(f"{control}/announced/2")
        open(f"{control}/ready", "w").close()
        time.sleep(30)
        """
    )
    child = start(*command)
    until(child, lambda _: (dirs.control / "ready").exists())
    try:
        announced = child.poll().announced
        assert announced is not None
        assert announced.number == 2
        assert not (dirs.control / "announced" / "1").exists()
    finally:
        discard_tree(dirs.control / "announced")  # pytest cannot


def test_the_end_of_a_link_in_the_control_directory_is_left_alone(start: Start, dirs: JobDirs, tmp_path: Path) -> None:
    """What an `announced` link points to is neither taken as a checkpoint nor removed."""
    for number in ("1", "2"):
        (tmp_path / "elsewhere" / number).mkdir(parents=True)
    child = strange_control(start, dirs, f"ln -s {tmp_path}/elsewhere announced")
    assert child.poll().announced is None
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["1", "2"]
