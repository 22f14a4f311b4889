"""The entry point of the container image: a command of Holdfast, or a program of the image."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from holdfast._entrypoint import is_program


def run(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "holdfast._entrypoint", *words]
    variables = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": os.devnull}
    return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", ["/bin/sh", "sh"])
def test_a_program_replaces_the_worker(tmp_path: Path, program: str) -> None:
    """`docker run IMAGE /bin/bash`, as in the demo's README, starts that program, with its own exit code."""
    done = run(tmp_path, program, "-c", "echo here; exit 7")
    assert (done.returncode, done.stdout) == (7, "here\n")


def test_a_command_is_run_by_holdfast(tmp_path: Path) -> None:
    """Everything else is a command line of `holdfast`."""
    done = run(tmp_path, "settings")
    assert (done.returncode, "LEASE" in done.stdout) == (0, True)
    done = run(tmp_path, "nonsense")
    assert (done.returncode, "there is no command" in done.stderr) == (2, True)


def test_a_program_that_is_missing_is_one_line(tmp_path: Path) -> None:
    """A path that does not exist is an error of one line, with the exit code that a shell would give."""
    done = run(tmp_path, "/no/such/program")
    assert (done.returncode, done.stderr) == (
        127,
        "holdfast: /no/such/program cannot be run: No such file or directory\n",
    )


@pytest.mark.parametrize(("word", "expected"), [("", False), ("--help", False), ("worker", False), ("./x", True)])
def test_commands_and_options_are_no_programs(word: str, expected: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A command of Holdfast wins over a program of the same name."""
    assert is_program(word) is expected
