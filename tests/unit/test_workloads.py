"""workloads.toml: what it offers, and how a wrong entry is said."""

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.workloads import load
from lifecycle.errors import ConfigError


def test_without_a_file_there_is_what_is_built_in() -> None:
    """The series sum, which needs an input."""
    assert list(load(None)) == ["series-sum"]
    assert load(None)["series-sum"].needs_input


def test_an_entry_is_read_with_all_its_keys(tmp_path: Path) -> None:
    """A command as text or as words."""
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
        ('[relax]\ncommand = "x"\ngrace = "soon"', r"\[relax\] grace"),
        ('[relax]\ncommand = "x"\nneeds_input = 1', r"\[relax\] needs_input"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, text: str, named: str) -> None:
    """File, entry and key, in one line, before any job is taken."""
    file = tmp_path / "workloads.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A worker that offers less than was meant would fail jobs."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.toml")
