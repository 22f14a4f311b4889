"""The table of `status`, on terminals of any width and piped."""

import io
import random
import re
from pathlib import Path

import pytest

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.commands import status
from client.config.environment import Environment
from client.config.settings import from_environ
from client.records.query import parse_query
from client.views.status_table import StatusTable
from client.views.terminal import plain, styled, wants_color, write_line
from client.views.text import display_width
from lifecycle.errors import ConfigError
from lifecycle.job_record import CheckpointRef, JobRecord, Progress
from lifecycle.key_layout import KeyLayout
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore, StoredRecord
from lifecycle.states import State

LONG_ID = "a-folding-run-with-a-long-name-0001"
RUNNING = StoredRecord(
    JobRecord(
        "md-1",
        "relax",
        state=State.RUNNING,
        epoch=3,
        owner="salad-7f3a9c1e-44d2-4c1b-8a55",
        lease_s=120,
        progress=Progress(69000, 100000, 12.5),
        checkpoint=CheckpointRef("m", "d", 12, step=66000),
    ),
    "",
    5.0,
)
DEAD = StoredRecord(
    JobRecord("md-2", "relax", state=State.RUNNING, epoch=1, owner="n", lease_s=120, progress=Progress(5, 10, 2.0)),
    "",
    120 + 72,
)
FAILED = StoredRecord(
    JobRecord(LONG_ID, "relax", state=State.FAILED, epoch=3, failures=3, error="exit code 1: " + "no room " * 20),
    "",
    9.0,
)
JOBS = (RUNNING, DEAD, FAILED)


def table(width: int | None, jobs: tuple[StoredRecord, ...] = JOBS) -> list[str]:
    made = StatusTable.for_jobs(jobs, width)
    return [plain(line) for line in (made.header(), *map(made.row, jobs))]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_the_terminal_and_never_cuts_an_id(width: int) -> None:
    """No line is wider than the terminal, and each begins with the whole id and the state."""
    lines = table(width)
    assert max(map(display_width, lines)) <= width
    assert [line.split()[:2] for line in lines[1:]] == [["md-1", "running"], ["md-2", "running"], [LONG_ID, "failed"]]


def test_columns_of_low_value_go_first() -> None:
    """A wider terminal shows all columns of a narrower one, and more of them."""
    heads = {width: table(width)[0].split() for width in (60, 80, 120, 200)}
    assert heads[60] == ["job", "state", "rate"]
    assert heads[80] == ["job", "state", "progress", "rate"]
    assert heads[120] == ["job", "state", "progress", "rate", "eta", "saving", "error"]
    assert heads[200] == [*heads[120][:-1], "checkpoint", "owner", "epoch", "failures", "error"]


def test_progress_is_short_where_there_is_no_room() -> None:
    """If steps and share do not fit, the share is shown alone."""
    lines = table(72)
    assert lines[0].split() == ["job", "state", "done", "rate", "saving"]
    assert "69%" in lines[1]
    assert "69000" not in lines[1]


@pytest.mark.parametrize("width", [60, 200, None])
def test_a_dead_owner_is_stale_and_has_no_rate(width: int | None) -> None:
    """A job whose owner's lease has expired shows for how long, instead of the rate and the time left."""
    line = table(width)[2]
    assert "stale 1m 12s" in line
    assert "2/s" not in line


def test_without_a_width_everything_is_shown() -> None:
    """Piped, and with `-o wide`, the table has every column, and no text is cut."""
    assert table(None)[3].endswith(("no room " * 20).strip())


def test_a_line_has_no_control_characters_but_its_colors() -> None:
    """What a workload wrote cannot steer the terminal."""
    hostile = StoredRecord(JobRecord("a", "s", state=State.FAILED, error="\x1b[2Jgone\x07"), "", 0.0)
    made = StatusTable.for_jobs([hostile], 80)
    assert re.sub(r"\x1b\[\d+m", "", styled(made.row(hostile))).rstrip() == "a    failed   [2Jgone"


def test_wide_letters_take_two_columns() -> None:
    """Texts with letters of East Asia are cut and padded by the columns that they take."""
    jobs = tuple(StoredRecord(JobRecord(f"j{n}", "s", error="漢字" * n * 10), "", 0.0) for n in (1, 2))
    lines = table(50, jobs)
    assert max(map(display_width, lines)) == 50


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return out


def test_color_is_for_terminals_that_want_it(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are coloured on a terminal; not with NO_COLOR, not on a dumb terminal, and not in a pipe."""
    write_line([("failed", "red")], terminal)
    assert terminal.getvalue() == "\x1b[31mfailed\x1b[0m\n"
    assert not wants_color(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_color(terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(terminal)


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    clock, settings = ManualClock(), from_environ({}, None)
    store = MemoryStore(clock)
    record_store = RecordStore(store, clock, random.Random(1))
    made = Environment(settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(""), "", settings.limits())
    for stored in JOBS:
        store.put(made.layout.job(stored.record.job).record, encode_record(stored.record))
    return made


def test_names_alone(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o name` prints one job id per line and nothing else, for scripts."""
    assert status.run(env, [], parse_query(), as_json=False, watch=False, output="name") == 0
    assert capsys.readouterr().out.splitlines() == [LONG_ID, "md-1", "md-2"]
    with pytest.raises(ConfigError, match="--output tall: must be one of wide, name, json"):
        status.run(env, [], parse_query(), as_json=False, watch=False, output="tall")


def test_on_a_terminal_no_line_is_wider_than_that(
    env: Environment, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 60 columns, table and summary have lines of at most 60, unless `-o wide` asks for all."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", terminal)
    assert status.run(env, [], parse_query(), as_json=False, watch=False) == 0
    shown = terminal.getvalue().splitlines()
    assert max(map(len, shown)) <= 60
    assert shown[-1].endswith("failed")
    assert status.run(env, [], parse_query(), as_json=False, watch=False, output="wide") == 0
    assert max(map(len, terminal.getvalue().splitlines())) > 200
