"""What the client does when something is wrong: with a key in the bucket, a link on disk, a call, or a command line."""

import io
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapters.local.clock import SystemClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.cli import main
from client.commands import cancel, download, logs, purge, reconcile, status, submit, upload
from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import from_environ
from client.operations import job_control as control
from client.operations.submission import JobRequest
from client.records.query import EVERYTHING, parse_query
from client.records.reader import read_all
from client.records.record_index import RecordIndex
from client.views.prompt import confirm
from lifecycle.errors import ConfigError, PermanentError, RetryableError, UnknownOutcomeError
from lifecycle.job_record import CheckpointRef, JobRecord, Result
from lifecycle.key_layout import KeyLayout
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State

DENIED = ConfigError("wrong key")


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """In memory, where any key can stand, as in a bucket."""
    monkeypatch.chdir(tmp_path)
    clock, settings = SystemClock(), from_environ({}, None)
    store = MemoryStore(clock)
    return Environment(
        settings=settings,
        clock=clock,
        queue=MemoryQueue(clock),
        store=store,
        record_store=RecordStore(store, clock, random.Random(1)),
        layout=KeyLayout(""),
        bucket="",
        limits=settings.limits(),
    )


def put(env: Environment, job: str, record: JobRecord | None = None) -> None:
    env.store.put(f".holdfast/records/{job}.json", encode_record(record or JobRecord(job, "series-sum")))


def record_of(env: Environment, job: str) -> JobRecord:
    stored = env.record_store.read(env.layout.job(job).record)
    assert stored is not None
    return stored.record


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, *, only: str = "") -> None:
    """Let the ledger's method *name* raise *error*, for keys that contain *only*."""
    real = getattr(RecordStore, name)

    def fail(self: RecordStore, key: str, *rest: Any) -> Any:
        if only in key:
            raise error
        return real(self, key, *rest)

    monkeypatch.setattr(RecordStore, name, fail)


def requests(*jobs: str) -> list[JobRequest]:
    return [JobRequest(job, "w", {}) for job in jobs]


# ---- what keys and links say is not believed ----


def test_no_log_is_written_outside_the_folder(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever can write to the bucket can name a key as he likes; he cannot write to the operator's disk by it."""
    put(env, "a")
    env.store.put("a/log/../../../evil.txt", b"owned")
    env.store.put("a/log/e1.jsonl", b"fine")
    assert download.run(env, tmp_path / "out", [], state=False) == 1
    assert not (tmp_path / "evil.txt").exists()
    assert (tmp_path / "out/a/log/e1.jsonl").read_bytes() == b"fine"
    assert "would be written outside" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../evil", "a/b", ".hidden", "a b"])
def test_a_key_that_names_no_job_is_told_and_left_alone(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A job's id becomes a path, so it is checked before it does."""
    put(env, name)
    env.store.put(f"{name}/log/e1.jsonl", b"owned")
    put(env, "good")
    assert download.run(env, tmp_path / "deep" / "out", [], state=False) == 1
    assert not list(tmp_path.rglob("*.jsonl"))
    assert "is not a valid job id" in capsys.readouterr().err
    assert [found.job for found in read_all(env) if found.stored] == ["good"]


def test_a_record_that_bears_another_id_is_left_alone(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither its messages nor its files could be the right ones."""
    put(env, "a", JobRecord("../b", "series-sum"))
    assert reconcile.run(env, older=timedelta(0), dry_run=False, as_json=False) == 1
    assert "names another job, '../b'" in capsys.readouterr().err
    assert env.queue.depth().available == 0


@pytest.mark.parametrize("link", ["out/a", "out/a/log", "out/a/log/e1.jsonl"])
def test_links_in_the_folder_are_not_followed_out_of_it(env: Environment, tmp_path: Path, link: str) -> None:
    """Not the job's folder, not one in it, not a file."""
    put(env, "a")
    env.store.put("a/log/e1.jsonl", b"owned")
    (tmp_path / "elsewhere" / "log").mkdir(parents=True)
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere" / ("new.jsonl" if link.endswith("jsonl") else ""))
    assert download.run(env, tmp_path / "out", [], state=False) == 1
    assert not list((tmp_path / "elsewhere").rglob("*.jsonl"))


def test_a_damaged_result_does_not_keep_the_logs_away(env: Environment, tmp_path: Path) -> None:
    """They may say what went wrong."""
    lost = CheckpointRef("a/checkpoints/e1/000001.json", "sha256:0", 1)
    put(env, "a", JobRecord("a", "s", state=State.COMPLETED, result=Result(lost, files=1, bytes=1)))
    env.store.put("a/log/e1.jsonl", b"fine")
    assert download.run(env, tmp_path / "out", [], state=False) == 1
    assert (tmp_path / "out/a/log/e1.jsonl").exists()


@pytest.mark.parametrize("act", [control.cancel, control.retry])
def test_what_is_no_job_id_reaches_no_key(env: Environment, act: control.JobAction) -> None:
    """Not even one that exists."""
    put(env, "../a")
    with pytest.raises(PermanentError, match="not a valid job id"):
        act(env, "../a")
    with pytest.raises(PermanentError, match="there is no job"):
        logs.run(env, "../a", console=False)


# ---- one that fails does not stop the others; what is wrong for all does ----


def test_an_unreachable_job_does_not_keep_the_next_from_being_cancelled(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is named."""
    put(env, "a")
    put(env, "b")
    failing(monkeypatch, "read", RetryableError("down"), only="/a.json")
    assert cancel.run(env, ["a", "b"]) == 1
    assert "holdfast: a: down" in capsys.readouterr().err
    assert record_of(env, "b").state is State.CANCELLED


def test_a_retry_whose_message_failed_says_how_to_send_it(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is queued by then, and fresh: only `--older 0` finds it at once."""

    def send(_: object) -> None:
        raise RetryableError("no answer")

    put(env, "a", JobRecord("a", "s", state=State.FAILED))
    monkeypatch.setattr(env.queue, "send", send)
    with pytest.raises(RetryableError, match=r"queued.*no answer.*reconcile --older 0"):
        control.retry(env, "a")
    assert record_of(env, "a").state is State.QUEUED


@pytest.mark.parametrize("error", [UnknownOutcomeError("lost"), PermanentError("odd")])
def test_reconcile_numbers_the_others_though_one_cannot_be(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Its message is out all the same, and that is what is told."""
    put(env, "a")
    put(env, "b")
    failing(monkeypatch, "write", error, only="/a.json")
    assert reconcile.run(env, older=timedelta(0), dry_run=False, as_json=False) == 0
    assert "a: message sent" in capsys.readouterr().out
    assert (record_of(env, "a").dispatch, record_of(env, "b").dispatch) == (0, 1)


def test_wrong_credentials_are_one_error_and_not_one_for_each_job(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was submitted, and exit 78 follows."""
    failing(monkeypatch, "write", DENIED)
    with pytest.raises(ConfigError, match="wrong key"):
        submit.run(env, requests(*(f"j{number}" for number in range(200))), as_json=False)
    assert capsys.readouterr() == ("", "")
    failing(monkeypatch, "read", DENIED)
    for look in (lambda: cancel.run(env, ["a"]), lambda: list(read_all(env, ["a"]))):
        with pytest.raises(ConfigError, match="wrong key"):
            look()


def test_a_wrong_queue_is_told_with_what_is_not_announced(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records that were written have no message, so they are counted before exit 78."""

    def send(_: object) -> None:
        raise DENIED

    monkeypatch.setattr(env.queue, "send", send)
    with pytest.raises(ConfigError, match="wrong key"):
        submit.run(env, requests("a", "b"), as_json=False)
    said = capsys.readouterr()
    assert said.out == "2 not announced\n"
    assert "reconcile --older 0" in said.err


def test_a_submit_of_unknown_outcome_says_how_to_go_on(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record may be there, without a message."""
    failing(monkeypatch, "write", UnknownOutcomeError("lost"))
    assert submit.run(env, requests("a"), as_json=False) == 1
    assert "reconcile --older 0" in capsys.readouterr().err


# ---- submit: what is asked for ----


def read_lines(tmp_path: Path, text: str) -> list[JobRequest]:
    file = tmp_path / "jobs.jsonl"
    file.write_text(text, encoding="utf-8")
    return submit.read_requests([], file=file, workload="w", params=[])


def test_a_job_asked_for_twice_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And submitted once."""
    found = read_lines(tmp_path, '{"job":"a"}\n{"job":"b"}\n{"job":"a"}\n{"job":"a"}')
    assert [request.job for request in found] == ["a", "b"]
    assert capsys.readouterr().err == "a: requested 3 times, submitted once\n"


def test_a_job_asked_for_with_different_work_is_refused(tmp_path: Path) -> None:
    """Neither can be chosen for the user."""
    with pytest.raises(ConfigError, match="a is requested twice with different work"):
        read_lines(tmp_path, '{"job":"a","params":{"x":1}}\n{"job":"a","params":{"x":2}}\n')


def test_a_line_ends_where_json_lines_end(tmp_path: Path) -> None:
    """U+2028 may stand in JSON as it is."""
    (request,) = read_lines(tmp_path, '{"job":"a","params":{"x":"p\u2028q"}}\r\n')
    assert request.params == {"x": "p\u2028q"}


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000,
        '{"job":"a","workload":""}',
        '{"job":"a","params":{"x":NaN}}',
        '{"job":"a","params":{"STATE_SAVING_INTERVAL":"often"}}',
    ],
)
def test_a_line_that_no_worker_could_use_is_named(tmp_path: Path, line: str) -> None:
    """Before anything is submitted."""
    with pytest.raises(ConfigError, match="line 1"):
        read_lines(tmp_path, f"{line}\n")


def test_a_parameter_that_is_no_json_is_a_text() -> None:
    """NaN is none, whatever Python's reader says."""
    (request,) = submit.read_requests(["a"], file=None, workload="w", params=["x=NaN", "y=1e3", "z=-Infinity"])
    assert request.params == {"x": "NaN", "y": 1000.0, "z": "-Infinity"}


def test_a_saving_interval_that_is_no_time_is_refused() -> None:
    """At the command, not hours later by a node."""
    with pytest.raises(ConfigError, match=r"invalid STATE_SAVING_INTERVAL 'often'.* nothing was submitted"):
        submit.read_requests(["a"], file=None, workload="w", params=["STATE_SAVING_INTERVAL=often"])


# ---- upload ----


@pytest.mark.parametrize("target", ["big", "nowhere"])
def test_a_link_that_is_not_followed_is_told(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    """A part of the input must not be missing in silence; the other jobs go up."""
    (tmp_path / "big").mkdir()
    for job in "ab":
        (tmp_path / "jobs" / job).mkdir(parents=True)
        (tmp_path / "jobs" / job / "x").write_text("x")
    (tmp_path / "jobs/a/data").symlink_to(tmp_path / target)
    assert upload.run(env, tmp_path / "jobs") == 1
    assert "data is a" in capsys.readouterr().err
    assert [listed.key for listed in env.store.list("")] == ["b/input/x"]


def test_force_changes_the_input_of_an_unfinished_job(env: Environment, tmp_path: Path) -> None:
    """Nothing else does."""
    put(env, "a", JobRecord("a", "s", state=State.RUNNING))
    (tmp_path / "jobs/a").mkdir(parents=True)
    (tmp_path / "jobs/a/x").write_text("new")
    assert upload.run(env, tmp_path / "jobs") == 1
    assert env.store.get("a/input/x") is None
    assert upload.run(env, tmp_path / "jobs", force=True) == 0
    assert env.store.get("a/input/x") is not None


def test_an_unreadable_record_protects_the_input(env: Environment, tmp_path: Path) -> None:
    """It may be a running job's."""
    env.store.put(".holdfast/records/a.json", b"nonsense")
    (tmp_path / "jobs/a").mkdir(parents=True)
    (tmp_path / "jobs/a/x").write_text("new")
    assert upload.run(env, tmp_path / "jobs") == 1
    assert env.store.get("a/input/x") is None


# ---- what people see ----


def test_the_table_shows_texts_as_they_are(env: Environment) -> None:
    """Brackets are no markup, and a workload's control characters do not reach the terminal."""
    put(env, "a", JobRecord("a", "s", state=State.FAILED, error="no [/data/x]\x1b[2J"))
    text = io.StringIO()
    with RecordIndex(env, None) as index:
        index.refresh()
        Console(width=200, file=text).print(status.rich_table(index, EVERYTHING))
    assert "no [/data/x]" in text.getvalue()
    assert "\x1b" not in text.getvalue()


def test_status_shows_only_the_failed_if_asked(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are not in the way."""
    put(env, "a", JobRecord("a", "s", state=State.FAILED))
    put(env, "b")
    assert status.run(env, [], parse_query(states=["failed"]), as_json=True, watch=False) == 0
    assert [json.loads(line)["job"] for line in capsys.readouterr().out.splitlines()] == ["a"]


def test_logs_of_one_attempt(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """And one that there is not is told, with those that there are."""
    put(env, "a")
    for epoch in (1, 2):
        env.store.put(f"a/log/e{epoch}.jsonl", f"line {epoch}\n".encode())
    logs.run(env, "a", console=False, epoch=2)
    assert capsys.readouterr().out == "line 2\n"
    with pytest.raises(PermanentError, match="no log of attempt 3, only of 1, 2"):
        logs.run(env, "a", console=False, epoch=3)


def test_purge_names_what_it_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUCKET without QUEUE_URL is not used, so it is not what is asked about."""
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(purge, "confirm", asked.append)
    purge.purge_storage(open_environment(from_environ({"BUCKET": "of-the-cloud"}, None)), yes=False)
    assert "of-the-cloud" not in asked[0]
    assert str(tmp_path) in asked[0]


def test_an_end_of_input_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D at the question removes nothing."""

    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert not confirm("sure?")


@pytest.mark.parametrize("words", [("download", "file"), ("states", "--write", "none/such")])
def test_what_the_disk_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Not a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUEUE_URL", raising=False)
    (tmp_path / "file").write_text("")
    assert main(words) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_max_jobs_is_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that takes nothing is a slip of the pen."""
    with pytest.raises(SystemExit, match="2"):
        main(("worker", "--max-jobs", "-1"))
    assert "1 or more" in capsys.readouterr().err


# ---- settings ----


def test_settings_may_lie_in_a_table_of_their_own(tmp_path: Path) -> None:
    """In a file that others use too."""
    file = tmp_path / "holdfast.toml"
    file.write_text('[holdfast]\nLEASE = "60s"\nHEARTBEAT = 5\n')
    assert from_environ({}, file).lease == timedelta(seconds=60)
    file.write_text("[holdfast]\nCOLOUR = 1\n")
    with pytest.raises(ConfigError, match="COLOUR"):
        from_environ({}, file)


@pytest.mark.parametrize("setting", [{"LEASE": "20s"}, {"LEASE": "12h"}, {"HEARTBEAT": "31s"}])
def test_a_wrong_pair_says_where_it_came_from(setting: dict[str, str]) -> None:
    """So that one knows where to change it."""
    with pytest.raises(ConfigError, match="environment"):
        from_environ(setting, None)
