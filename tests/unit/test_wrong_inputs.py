"""A hundred wrong inputs: each gives one line on stderr, the right exit code, and a remedy."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from client.cli import SECTIONS, SUMMARIES, main
from client.config.composition import open_environment
from client.config.settings import current_settings
from lifecycle.job_record import JobRecord
from lifecycle.record.codec import encode_record
from lifecycle.states import State

PYTHONISMS: Final = ("Errno", "Traceback", "Error(", "NoneType", "literal for", "_count", "<class", "object at 0x")
JOBS: Final = (
    JobRecord("queued", "relax", {"t": 300}),
    JobRecord("done", "relax", state=State.COMPLETED),
    JobRecord("running", "relax", state=State.RUNNING, owner="n", lease_s=40_000),
)

WITHOUT_ARGUMENTS: Final = ("queue", "storage", "doctor", "settings", "worker")
USE: Final = [
    ("", "`holdfast --help` lists them"),
    ("stauts", "did you mean `holdfast status`?"),
    ("frobnicate", "`holdfast --help` lists the commands"),
    ("help stauts", "did you mean `holdfast status`?"),
    ("--bogus", "see `holdfast --help`"),
    *[(f"{name} --bogus", f"see `holdfast {name} --help`") for name in SUMMARIES if name != "help"],
    *[
        (f"{name} surplus", f"see `holdfast {name} --help`")
        for name in ("queue", "storage", "doctor", "settings", "worker")
    ],
    ("show", "missing argument 'JOB'"),
    ("logs", "missing argument 'JOB'"),
    ("upload", "missing argument 'DIR'"),
    ("download", "missing argument 'DIR'"),
    ("purge", "storage"),
    ("completion", "bash"),
    ("cancel", "name jobs"),
    ("retry", "name jobs"),
    ("rm", "name jobs"),
    ("verify", "name jobs"),
    ("show queued done", "see `holdfast show --help`"),
    ("status --stat x", "'--state'"),
    ("status --state runing", "did you mean running?"),
    ("status --state superseded", "the states are queued"),
    ("status --sort size", "'progress'"),
    ("status --limit 0", "a whole number, 1 or more"),
    ("status --limit many", "see `holdfast status --help`"),
    ("status --since yesterday", "use forms like"),
    ("status --since -1h", "use forms like"),
    ("status --label team", "is not NAME=VALUE"),
    ("status -l =bio", "is not NAME=VALUE"),
    ("status -o tall", "'wide', 'name'"),
    ("report --by colour", "'workload'"),
    ("report --price much", "KIND=PRICE"),
    ("report --price A=-1", "zero or more"),
    ("report --price inf", "zero or more"),
    ("report --call-price queue", "KIND=PRICE"),
    ("report --call-price disk=1", "queue, write or read"),
    ("report --call-price queue=-1", "zero or more"),
    ("report --since x", "use forms like"),
    ("archive --older soon", "use forms like"),
    ("archive --older 1h", "must be at least one day"),
    ("reconcile --older x", "use forms like"),
    ("exporter --port x", "see `holdfast exporter --help`"),
    ("exporter --port 70000", "a port from 0 to 65535"),
    ("exporter --every soon", "use forms like"),
    ("dashboard --port 99999", "a port from 0 to 65535"),
    ("worker --idle-exit soon", "use forms like"),
    ("worker --max-jobs 0", "a whole number, 1 or more"),
    ("worker --max-jobs x", "see `holdfast worker --help`"),
    ("logs queued --epoch x", "see `holdfast logs --help`"),
    ("submit", "name a folder, job ids, or a file"),
    ("submit ''", "an argument is empty"),
    ("submit no/such", "neither an existing folder nor a valid job id"),
    ("submit .hidden", "neither an existing folder nor a valid job id"),
    ("submit a --param x", "is not NAME=VALUE"),
    ("submit a --param =1", "is not NAME=VALUE"),
    ("submit a --label y", "is not NAME=VALUE"),
    ("submit a --param STATE_SAVING_INTERVAL=often", "nothing was submitted"),
    ("submit --from missing.jsonl", "missing.jsonl cannot be read: No such file or directory"),
    ("submit empty", "each sub-folder would be a job"),
    ("upload missing", "is not a directory"),
    ("upload empty", "each sub-folder would be a job"),
    ("upload bad.jsonl", "is not a directory"),
    ("purge all", "'storage', 'queue'"),
    ("purge storage", "pass --yes"),
    ("purge queue", "pass --yes"),
    ("rm done", "pass --yes"),
    ("completion tcsh", "'bash', 'zsh', 'fish'"),
]
NOT_DONE: Final = [
    ("show nowhere", "there is no job 'nowhere'"),
    ("show 'a b'", "is not a valid job id"),
    ("logs nowhere", "there is no job 'nowhere'"),
    ("logs queued", "logs are uploaded every 20 s"),
    ("cancel nowhere", "there is no such job"),
    ("cancel done", "there is nothing to cancel"),
    ("cancel 'xx-*'", "`holdfast status` lists the jobs"),
    ("cancel -l team=none", "no job matches label team=none"),
    ("retry queued", "only a failed or cancelled job can be retried"),
    ("retry nowhere", "there is no such job"),
    ("retry --failed", "no job matches state failed"),
    ("rm nowhere --yes", "there is no such job"),
    ("rm queued --yes", "cancel it first"),
    ("rm running --yes", "cancel it first"),
    ("verify nowhere", "there is no job 'nowhere'"),
    ("status nowhere", "there is no job 'nowhere'"),
    ("status 'xx-*'", "no job matches 'xx-*'"),
    ("download out nowhere", "there is no job 'nowhere'"),
    ("download bad.jsonl done", "bad.jsonl"),
    ("submit localjobs", "check the spelling"),
    ("report --csv no/such/file.csv", "No such file or directory: no/such/file.csv"),
    ("states --write no/such/file", "No such file or directory: no/such/file"),
]
SETTINGS: Final = [
    ({"LEASE": "soon"}, "LEASE"),
    ({"HEARTBEAT": "2h"}, "HEARTBEAT"),
    ({"MAX_RUNNING_TIME": "20h"}, "MAX_RUNNING_TIME"),
    ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
    ({"BUCKET": "b"}, "QUEUE_URL"),
    ({"QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/q"}, "BUCKET"),
    ({"PREFIX": "../up"}, "PREFIX"),
    ({"HOLDFAST_CONFIG": "missing.toml"}, "missing.toml"),
]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("QUEUE_URL", "BUCKET", "PREFIX", "HOLDFAST_HOME", "WORKLOADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    env = open_environment(current_settings())
    for record in JOBS:
        env.store.put(env.layout.job(record.job).record, encode_record(record))


def one_line(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command line; return its exit code and its one line on stderr, without the note on where it looks."""
    code = main(shlex.split(words))
    lines = [line for line in capsys.readouterr().err.splitlines() if "local files in" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("holdfast: ")
    assert not [word for word in PYTHONISMS if word in lines[0]]
    return code, lines[0]


@pytest.mark.parametrize(("words", "remedy"), USE, ids=[words or "nothing" for words, _ in USE])
def test_a_wrong_command_line(words: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that cannot be right is refused with 2, and the line says what would be right."""
    code, line = one_line(words, capsys)
    assert code == 2
    assert remedy in line


@pytest.mark.parametrize(("words", "remedy"), NOT_DONE, ids=[words for words, _ in NOT_DONE])
def test_what_cannot_be_done(words: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not done, because of the jobs or files that are there, gives 1 and a line with the reason."""
    code, line = one_line(words, capsys)
    assert code == 1
    assert remedy in line


@pytest.mark.parametrize(("given", "named"), SETTINGS, ids=[" ".join(given) for given, _ in SETTINGS])
def test_wrong_settings(
    given: dict[str, str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong or missing setting gives 78, and the line names the setting."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code, line = one_line("status", capsys)
    assert code == 78
    assert named in line


def test_a_wrong_file_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is no job gives 78, and the file and the line are named."""
    code, line = one_line("submit --from bad.jsonl", capsys)
    assert code == 78
    assert "bad.jsonl, line 1" in line


def test_there_are_a_hundred() -> None:
    """The tables above have at least a hundred entries."""
    assert len(USE) + len(NOT_DONE) + len(SETTINGS) >= 100


@pytest.mark.parametrize("words", ["doctor", "--help", "status", "states"])
def test_any_encoding_will_do(words: str, tmp_path: Path) -> None:
    """On a console that lacks letters, they are shown as escapes, and no command fails because of that."""
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", words],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "latin-1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


# ---- help ----


@pytest.mark.parametrize("name", [name for name in SUMMARIES if name != "help"])
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of a command describes it, gives two examples that begin with its name, and shows defaults."""
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert SUMMARIES[name] in " ".join(shown.split())
    assert shown.count("$ ") == 2
    assert all(f"holdfast {name}" in line for line in shown.splitlines() if "$ " in line)
    assert max(map(len, shown.splitlines())) <= 80
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == shown


def test_the_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast --help` and `holdfast help` list the commands by purpose."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [title for title in SECTIONS if f"{title}:" in shown] == [*SECTIONS]
    assert [name for name in SUMMARIES if f"  {name} " not in shown] == []
    assert main(["help"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["--version"]) == 0


def test_quiet_and_color(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`-q` leaves results and errors only; `--no-color` is accepted before and after the command."""
    monkeypatch.setattr("client.views.output._QUIET", [])
    monkeypatch.setenv("NO_COLOR", "")
    assert main(["status"]) == 0
    assert "local files in" in capsys.readouterr().err
    assert main(["--no-color", "status", "-q"]) == 0
    assert capsys.readouterr().err == ""


def completions(line: str, tmp_path: Path) -> list[str]:
    """Return what bash would offer for the last word of *line*."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "holdfast"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={
            "_HOLDFAST_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
        },
    )
    return [offered.partition(",")[2] for offered in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("holdfast st", ["storage", "status", "states"]),
        ("holdfast status --sta", ["--state", "--stale"]),
        ("holdfast status --sort p", ["progress"]),
        ("holdfast show q", ["queued"]),
        ("holdfast cancel done r", ["running"]),
    ],
)
def test_a_shell_completes_commands_options_and_jobs(line: str, offered: list[str], tmp_path: Path) -> None:
    """Tab completes commands, options, their values, and job ids."""
    assert sorted(completions(line, tmp_path)) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast completion` prints the script for a shell."""
    assert main(["completion", shell]) == 0
    assert "_HOLDFAST_COMPLETE" in capsys.readouterr().out
