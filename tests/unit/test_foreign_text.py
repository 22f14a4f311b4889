"""Text of other origin, such as a job's output or a key, can neither steer a terminal nor be a formula."""

import ast
import csv
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from adapters.telemetry.log_format import AttemptContextProcessor, configure
from client.commands import logs, storage
from client.commands.report import write_csv
from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import from_environ
from client.views.output import complain, plain_output, say
from client.views.report import ReportLine
from client.views.request_costs import RequestPrices
from lifecycle.job_record import JobRecord
from lifecycle.record.codec import encode_record
from lifecycle.structured_log import StructuredLogger

ROOT: Final = Path(__file__).parents[2]
HOSTILE: Final = "\x1b]0;owned\x07\x1b[2J\x9b31mred\x08\x7f\u202e"
JOB: Final = "job1"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Return an environment on files, with one job."""
    monkeypatch.chdir(tmp_path)
    made = open_environment(from_environ({}, None))
    made.store.put(made.layout.job(JOB).record, encode_record(JobRecord(JOB, "series-sum")))
    return made


def assert_harmless(text: str) -> None:
    """Fail if *text* has a control character other than the ends of lines and tabs."""
    assert text
    assert [char for char in text if not (char.isprintable() or char in "\n\t")] == []


@pytest.mark.parametrize("line", [
    '{"at": "now", "epoch": 1, "node": "n\\u001b[2J", "event": "x", "error": "\\u001b]0;owned\\u0007"}',
    f"damaged {HOSTILE}",
])  # fmt: skip
def test_events_of_a_job_cannot_steer_the_terminal(
    env: Environment, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """`logs` prints events without control characters, damaged ones too."""
    env.store.put(f"{JOB}/log/e1.jsonl", f"{line}\n".encode())
    logs.run(env, JOB, console=False)
    assert_harmless(capsys.readouterr().out)


def test_output_of_a_job_cannot_steer_the_terminal(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`logs --console` prints text, tabs and lines; a progress bar's carriage returns become lines."""
    env.store.put(f"{JOB}/log/e1/000000.txt", f"step\t1\r\n50%\r100%\n{HOSTILE}\x1b[31mred\x1b[0m\n".encode())
    logs.run(env, JOB, console=True)
    out = capsys.readouterr().out
    assert_harmless(out)
    assert out.startswith("--- attempt 1 ---\nstep\t1\n50%\n100%\n")
    assert out.endswith("red\n")


def test_an_escape_sequence_in_two_pieces_is_harmless() -> None:
    """A sequence that is cut, as between two polls, loses its first character."""
    assert_harmless("x" + plain_output("\x1b[3") + plain_output("1mred"))


def test_keys_in_the_bucket_cannot_steer_the_terminal(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`storage` prints the names of folders, which anyone who may write to the bucket chooses."""
    env.store.put("evil\x1b[2J\x9b/output/x", b"")
    storage.run(env, as_json=False)
    assert_harmless(capsys.readouterr().out)


@pytest.mark.parametrize("file", sorted((ROOT / "client").glob("**/*.py")), ids=lambda file: file.stem)
def test_every_command_prints_through_one_function(file: Path) -> None:
    """Only client/views/output.py calls `print`; so no other text can reach a terminal."""
    calls = [ast.unparse(node) for node in ast.walk(ast.parse(file.read_text())) if is_print(node)]
    assert calls == [] or file.stem == "output"


def is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def test_say_and_complain_print_text_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Both keep lines apart where they are meant to, and print nothing else that steers."""
    say(f"a{HOSTILE}\nb")
    complain(f"c{HOSTILE}\nd")
    out, err = capsys.readouterr()
    assert_harmless(out + err)
    assert (out.count("\n"), err.count("\n")) == (2, 1)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Restore the root logger's handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook
    yield
    root.handlers[:], sys.excepthook = handlers, hooks
    root.setLevel(level)


@pytest.mark.parametrize("kind", ["text", "json"])
@pytest.mark.usefixtures("restored_logging")
def test_the_log_cannot_steer_the_terminal(kind: str) -> None:
    """No field, error, traceback or message of a library brings control characters into the log."""
    stream = io.StringIO()
    configure(kind=kind, level="info", context=AttemptContextProcessor("n"), redact=str, stream=stream)
    log = StructuredLogger("holdfast.test")
    log.info("job.claimed", job=HOSTILE, error=ValueError(HOSTILE), names=[HOSTILE])
    logging.getLogger("urllib3").warning("broken: %s", HOSTILE)
    log.error("job.failed", job="a", exc_info=ValueError(HOSTILE))
    assert_harmless(stream.getvalue())


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_a_name_is_no_formula_for_a_spreadsheet(name: str) -> None:
    """A text in `report --csv` that a spreadsheet would evaluate begins with an apostrophe; numbers are unchanged."""
    out = io.StringIO(newline="")
    write_csv([ReportLine(name), ReportLine("job1")], out, RequestPrices())
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert [row["name"] for row in rows] == [f"'{name}", "job1"]
    assert rows[0]["jobs"] == "0"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize(
    ("words", "code"),
    [(["settings"], 0), (["download", "für…"], 0), (["logs", "jöb…"], 1), (["--help"], 0)],
)
def test_no_encoding_of_the_terminal_ends_in_a_traceback(
    tmp_path: Path, encoding: str, words: list[str], code: int
) -> None:
    """Letters that the terminal lacks are shown as escapes."""
    variables = {
        "PYTHONIOENCODING": encoding,
        "NODE_KIND": "RTX…4090",
        "XDG_CONFIG_HOME": "/nowhere",
        "LC_ALL": "C.UTF-8",
    }
    command = [sys.executable, "-P", "-m", "holdfast", *words]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
