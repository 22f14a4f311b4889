"""workloads.toml: its entries, and the errors of malformed ones."""

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.process.workloads_file import load
from lifecycle.errors import ConfigError
from lifecycle.ports.runner import ExitMeaning


def test_without_a_file_there_is_the_built_in_workload() -> None:
    """Without a file there is the built-in series sum, which needs an input."""
    assert list(load(None)) == ["series-sum"]
    assert load(None)["series-sum"].needs_input


def test_an_entry_is_read_with_all_its_keys(tmp_path: Path) -> None:
    """A command is a string or a list of words."""
    file = tmp_path / "workloads.toml"
    file.write_text(
        '[relax]\ncommand = "python3 relax.py --name \'{name} x\'"\nenvironment = {A = "1"}\nstop_signal = "SIGUSR1"\n'
        'grace = "2m"\nneeds_input = true\n[short]\ncommand = ["true"]\n'
    )
    offered = load(file)
    assert list(offered) == ["series-sum", "relax", "short"]
    relax = offered["relax"]
    assert relax.command == ("python3", "relax.py", "--name", "{name} x")
    assert (relax.environment, relax.stop_signal, relax.needs_input) == ({"A": "1"}, "SIGUSR1", True)
    assert relax.grace == timedelta(minutes=2)


def test_an_entry_for_a_program_without_the_sdk(tmp_path: Path) -> None:
    """An entry declares a program's files, progress, exit codes and limits."""
    file = tmp_path / "workloads.toml"
    file.write_text("""
        [mdrun]
        command = "gmx mdrun -deffnm {output_dir}/md"
        checkpoint = "output/md.cpt"
        growing = ["output/*.xtc", "output/*.log"]
        check = "gmx check -f {snapshot}/output/md.xtc"
        quiet = "3s"
        saving_interval = "15m"
        exit_codes = {"3" = "again", "0" = "failed"}
        wall_time = "7d"
        silence = "10m"
        progress_pattern = 'step (?P<done>[0-9]+)'
        total = "{nsteps}"
    """)
    mdrun = load(file)["mdrun"]
    assert mdrun.checkpoint == ("output/md.cpt",)
    assert mdrun.growing == ("output/*.xtc", "output/*.log")
    assert mdrun.check == ("gmx", "check", "-f", "{snapshot}/output/md.xtc")
    assert (mdrun.quiet, mdrun.saving_interval) == (timedelta(seconds=3), timedelta(minutes=15))
    assert (mdrun.wall_time, mdrun.silence) == (timedelta(days=7), timedelta(minutes=10))
    meant = [mdrun.meaning(code) for code in (0, 3, 65, 75, 1)]
    assert meant == [ExitMeaning.FAILED, ExitMeaning.AGAIN, ExitMeaning.INVALID, ExitMeaning.AGAIN, ExitMeaning.FAILED]
    assert (mdrun.progress_pattern, mdrun.total) == ("step (?P<done>[0-9]+)", "{nsteps}")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense", "cannot be read"),
        ("relax = 1", r"\[relax\] is not a table"),
        ("[relax]", r"\[relax\] command"),
        ('[relax]\ncommand = ""', r"\[relax\] command"),
        ('[relax]\ncommand = "a \'b"', r"\[relax\] command"),
        ("[relax]\ncommand = [1]", r"\[relax\] command"),
        ('[relax]\ncommand = "x"\ncolour = 1', r"\[relax\] colour: no such key"),
        ('[relax]\ncommand = "x"\nenvironment = {A = 1}', r"\[relax\] environment"),
        ('[relax]\ncommand = "x"\nstop_signal = "SIGNAL"', r"\[relax\] stop_signal: 'SIGNAL'"),
        ('[relax]\ncommand = "x"\nstop = "everybody"', r"\[relax\] stop: 'everybody' is not one of program, leader,"),
        ('[relax]\ncommand = "x"\ngrace = "soon"', r"\[relax\] grace"),
        ('[relax]\ncommand = "x"\nneeds_input = 1', r"\[relax\] needs_input"),
        ('[relax]\ncommand = "x"\ncheckpoint = "state.cpt"', r"\[relax\] checkpoint: 'state.cpt' does not begin"),
        ('[relax]\ncommand = "x"\ngrowing = ["output/"]', r"\[relax\] growing"),
        ('[relax]\ncommand = "x"\ngrowing = 1', r"\[relax\] growing"),
        ('[relax]\ncommand = "x"\nquiet = "-1"', r"\[relax\] quiet"),
        ('[relax]\ncommand = "x"\ncheck = []', r"\[relax\] check"),
        ('[relax]\ncommand = "x"\nsaving_interval = "0"', r"\[relax\] saving_interval: must be more"),
        ('[relax]\ncommand = "x"\nexit_codes = ["3"]', r"\[relax\] exit_codes: is not a table"),
        ('[relax]\ncommand = "x"\nexit_codes = {"256" = "done"}', r"\[relax\] exit_codes: '256' is not an exit code"),
        ('[relax]\ncommand = "x"\nexit_codes = {"3" = "fine"}', r"\[relax\] exit_codes: 'fine' is not one of done"),
        ('[relax]\ncommand = "x"\nwall_time = "long"', r"\[relax\] wall_time"),
        ('[relax]\ncommand = "x"\nsilence = "0s"', r"\[relax\] silence: must be more"),
        ('[relax]\ncommand = "x"\nprogress_file = "../x"', r"\[relax\] progress_file: '../x' is not a path inside"),
        ('[relax]\ncommand = "x"\nprogress_pattern = "("', r"\[relax\] progress_pattern: is not a regular expression"),
        ('[relax]\ncommand = "x"\nprogress_pattern = "step"', r"\[relax\] progress_pattern: has no group"),
        (
            '[relax]\ncommand = "x"\nprogress_file = "p"\nprogress_pattern = "(?P<done>x)"',
            r"\[relax\] progress_pattern: there is progress_file already",
        ),
        ('[relax]\ncommand = "x"\ntotal = "many"', r"\[relax\] total: 'many' is neither"),
    ],
)
def test_an_invalid_entry_is_an_error(tmp_path: Path, text: str, named: str) -> None:
    """The error names the file, the entry and the key, in one line."""
    file = tmp_path / "workloads.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A missing file is an error: a worker that offers less than intended would fail jobs."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.toml")
