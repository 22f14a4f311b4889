"""The client's behaviour on odd keys, links, failing calls and wrong arguments."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.operators import memory_environment

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
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State

DENIED = ConfigError("wrong key")


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Return an environment in memory, where any key can exist, as in a bucket."""
    monkeypatch.chdir(tmp_path)
    return memory_environment()


def put(env: Environment, job: str, record: JobRecord | None = None) -> None:
    env.store.put(f".holdfast/records/{job}.json", encode_record(record or JobRecord(job, "series-sum")))


def record_of(env: Environment, job: str) -> JobRecord:
    stored = env.record_store.read(env.layout.job(job).record)
    assert stored is not None
    return stored.record


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, *, only: str = "") -> None:
    """Make the record store's method *name* raise *error*, for keys that contain *only*."""
    real = getattr(RecordStore, name)

    def fail(self: RecordStore, key: str, *rest: Any) -> Any:
        if only in key:
            raise error
        return real(self, key, *rest)

    monkeypatch.setattr(RecordStore, name, fail)


def requests(*jobs: str) -> list[JobRequest]:
    return [JobRequest(job, "w", {}) for job in jobs]


# ---- keys and links are not trusted ----


def test_no_log_is_written_outside_the_folder(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key with `..` in it is never written outside the target folder."""
    put(env, "a")
    env.store.put("a/log/../../../evil.txt", b"owned")
    env.store.put("a/log/e1.jsonl", b"fine")
    assert download.run(env, tmp_path / "out", [], state=False) == 1
    assert not (tmp_path / "evil.txt").exists()
    assert (tmp_path / "out/a/log/e1.jsonl").read_bytes() == b"fine"
    assert "would be written outside" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../evil", "a/b", ".hidden", "a b"])
def test_a_key_without_a_valid_job_id_is_reported_and_skipped(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A record whose key is not a valid job id is reported, and never becomes a path."""
    put(env, name)
    env.store.put(f"{name}/log/e1.jsonl", b"owned")
    put(env, "good")
    assert download.run(env, tmp_path / "deep" / "out", [], state=False) == 1
    assert not list(tmp_path.rglob("*.jsonl"))
    assert "is not a valid job id" in capsys.readouterr().err
    assert [found.job for found in read_all(env) if found.stored] == ["good"]


def test_a_record_with_another_id_is_reported_and_skipped(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that names another job than its key is reported, and gets no message."""
    put(env, "a", JobRecord("../b", "series-sum"))
    assert reconcile.run(env, older=timedelta(0), dry_run=False, as_json=False) == 1
    assert "names another job, '../b'" in capsys.readouterr().err
    assert env.queue.depth().available == 0


@pytest.mark.parametrize("link", ["out/a", "out/a/log", "out/a/log/e1.jsonl"])
def test_download_follows_no_link(env: Environment, tmp_path: Path, link: str) -> None:
    """Download follows no link in the target folder, be it a file or a directory."""
    put(env, "a")
    env.store.put("a/log/e1.jsonl", b"owned")
    (tmp_path / "elsewhere" / "log").mkdir(parents=True)
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere" / ("new.jsonl" if link.endswith("jsonl") else ""))
    assert download.run(env, tmp_path / "out", [], state=False) == 1
    assert not list((tmp_path / "elsewhere").rglob("*.jsonl"))


def test_logs_are_downloaded_if_the_result_is_damaged(env: Environment, tmp_path: Path) -> None:
    """The logs of a job are downloaded even if its result cannot be read."""
    lost = CheckpointRef("a/checkpoints/e1/000001.json", "sha256:0", 1)
    put(env, "a", JobRecord("a", "s", state=State.COMPLETED, result=Result(lost, files=1, bytes=1)))
    env.store.put("a/log/e1.jsonl", b"fine")
    assert download.run(env, tmp_path / "out", [], state=False) == 1
    assert (tmp_path / "out/a/log/e1.jsonl").exists()


@pytest.mark.parametrize("act", [control.cancel, control.retry])
def test_an_invalid_job_id_reaches_no_key(env: Environment, act: control.JobAction) -> None:
    """An invalid job id is refused, even if such a key exists."""
    put(env, "../a")
    with pytest.raises(PermanentError, match="not a valid job id"):
        act(env, "../a")
    with pytest.raises(PermanentError, match="there is no job"):
        logs.run(env, "../a", console=False)


# ---- one failure does not stop the others; wrong credentials stop all ----


def test_cancel_goes_on_after_a_failure(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job whose record cannot be read is reported, and the next one is cancelled."""
    put(env, "a")
    put(env, "b")
    failing(monkeypatch, "read", RetryableError("down"), only="/a.json")
    assert cancel.run(env, ["a", "b"]) == 1
    assert "holdfast: a: down" in capsys.readouterr().err
    assert record_of(env, "b").state is State.CANCELLED


def test_a_retry_whose_message_failed_says_how_to_send_it(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the message of a retry is not sent, the error names the command that sends it."""

    def send(_: object) -> None:
        raise RetryableError("no answer")

    put(env, "a", JobRecord("a", "s", state=State.FAILED))
    monkeypatch.setattr(env.queue, "send", send)
    with pytest.raises(RetryableError, match=r"queued.*no answer.*reconcile --older 0"):
        control.retry(env, "a")
    assert record_of(env, "a").state is State.QUEUED


@pytest.mark.parametrize("error", [UnknownOutcomeError("lost"), PermanentError("odd")])
def test_reconcile_goes_on_after_a_failed_write(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """If a record cannot be updated after its message was sent, reconcile reports the job and updates the others."""
    put(env, "a")
    put(env, "b")
    failing(monkeypatch, "write", error, only="/a.json")
    assert reconcile.run(env, older=timedelta(0), dry_run=False, as_json=False) == 0
    assert "a: message sent" in capsys.readouterr().out
    assert (record_of(env, "a").dispatch, record_of(env, "b").dispatch) == (0, 1)


def test_wrong_credentials_are_one_error(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong credentials end a command with one error, not one for each job."""
    failing(monkeypatch, "write", DENIED)
    with pytest.raises(ConfigError, match="wrong key"):
        submit.run(env, requests(*(f"j{number}" for number in range(200))), as_json=False)
    assert capsys.readouterr() == ("", "")
    failing(monkeypatch, "read", DENIED)
    for look in (lambda: cancel.run(env, ["a"]), lambda: list(read_all(env, ["a"]))):
        with pytest.raises(ConfigError, match="wrong key"):
            look()


def test_a_wrong_queue_is_reported_with_unsent_messages(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the queue is wrong, jobs without a message are counted, and the remedy is named."""

    def send(_: object) -> None:
        raise DENIED

    monkeypatch.setattr(env.queue, "send", send)
    with pytest.raises(ConfigError, match="wrong key"):
        submit.run(env, requests("a", "b"), as_json=False)
    said = capsys.readouterr()
    assert said.out == "2 not announced\n"
    assert "reconcile --older 0" in said.err


def test_a_submit_of_unknown_outcome_names_the_remedy(
    env: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the outcome of a write is unknown, the output names the command that sends a missing message."""
    failing(monkeypatch, "write", UnknownOutcomeError("lost"))
    assert submit.run(env, requests("a"), as_json=False) == 1
    assert "reconcile --older 0" in capsys.readouterr().err


# ---- requests for jobs ----


def read_lines(tmp_path: Path, text: str) -> list[JobRequest]:
    file = tmp_path / "jobs.jsonl"
    file.write_text(text, encoding="utf-8")
    return submit.read_requests([], file=file, workload="w", params=[])


def test_duplicate_requests_are_reported_and_submitted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Identical requests for one job are reported once, and submitted once."""
    found = read_lines(tmp_path, '{"job":"a"}\n{"job":"b"}\n{"job":"a"}\n{"job":"a"}')
    assert [request.job for request in found] == ["a", "b"]
    assert capsys.readouterr().err == "a: requested 3 times, submitted once\n"


def test_conflicting_requests_are_refused(tmp_path: Path) -> None:
    """Two requests for one job with different work are an error."""
    with pytest.raises(ConfigError, match="a is requested twice with different work"):
        read_lines(tmp_path, '{"job":"a","params":{"x":1}}\n{"job":"a","params":{"x":2}}\n')


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    """U+2028, which JSON allows in strings, does not end a line."""
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
def test_an_unusable_line_is_named(tmp_path: Path, line: str) -> None:
    """A line that no worker could run is an error that names the line."""
    with pytest.raises(ConfigError, match="line 1"):
        read_lines(tmp_path, f"{line}\n")


def test_a_parameter_that_is_not_json_is_a_string() -> None:
    """A value that is not standard JSON, NaN included, is taken as a string."""
    (request,) = submit.read_requests(["a"], file=None, workload="w", params=["x=NaN", "y=1e3", "z=-Infinity"])
    assert request.params == {"x": "NaN", "y": 1000.0, "z": "-Infinity"}


def test_an_invalid_saving_interval_is_refused() -> None:
    """Submit refuses an invalid saving interval, so that no worker receives it."""
    with pytest.raises(ConfigError, match=r"invalid STATE_SAVING_INTERVAL 'often'.* nothing was submitted"):
        submit.read_requests(["a"], file=None, workload="w", params=["STATE_SAVING_INTERVAL=often"])


# ---- upload ----


@pytest.mark.parametrize("target", ["big", "nowhere"])
def test_upload_refuses_a_job_with_a_link(
    env: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    """A job whose folder contains a link is reported and not uploaded, and the others are."""
    (tmp_path / "big").mkdir()
    for job in "ab":
        (tmp_path / "jobs" / job).mkdir(parents=True)
        (tmp_path / "jobs" / job / "x").write_text("x")
    (tmp_path / "jobs/a/data").symlink_to(tmp_path / target)
    assert upload.run(env, tmp_path / "jobs") == 1
    assert "data is a" in capsys.readouterr().err
    assert [listed.key for listed in env.store.list("")] == ["b/input/x"]


def test_only_force_changes_the_input_of_an_unfinished_job(env: Environment, tmp_path: Path) -> None:
    """The input of an unfinished job is replaced with `--force`, and not without."""
    put(env, "a", JobRecord("a", "s", state=State.RUNNING))
    (tmp_path / "jobs/a").mkdir(parents=True)
    (tmp_path / "jobs/a/x").write_text("new")
    assert upload.run(env, tmp_path / "jobs") == 1
    assert env.store.get("a/input/x") is None
    assert upload.run(env, tmp_path / "jobs", force=True) == 0
    assert env.store.get("a/input/x") is not None


def test_an_unreadable_record_protects_the_input(env: Environment, tmp_path: Path) -> None:
    """A job whose record cannot be read may be running, so its input is not changed."""
    env.store.put(".holdfast/records/a.json", b"nonsense")
    (tmp_path / "jobs/a").mkdir(parents=True)
    (tmp_path / "jobs/a/x").write_text("new")
    assert upload.run(env, tmp_path / "jobs") == 1
    assert env.store.get("a/input/x") is None


# ---- output ----


def test_the_table_shows_plain_text(env: Environment) -> None:
    """The table shows brackets literally, and drops control characters."""
    put(env, "a", JobRecord("a", "s", state=State.FAILED, error="no [/data/x]\x1b[2J"))
    text = io.StringIO()
    with RecordIndex(env, None) as index:
        index.refresh()
        Console(width=200, file=text).print(status.screen(index, EVERYTHING, "", 200))
    assert "no [/data/x]" in text.getvalue()
    assert "\x1b" not in text.getvalue()


def test_status_filters_by_state(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`--state` lists only jobs in that state."""
    put(env, "a", JobRecord("a", "s", state=State.FAILED))
    put(env, "b")
    assert status.run(env, [], parse_query(states=["failed"]), as_json=True, watch=False) == 0
    assert [json.loads(line)["job"] for line in capsys.readouterr().out.splitlines()] == ["a"]


def test_logs_can_be_limited_to_one_attempt(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`--epoch` prints one attempt; an unknown one is an error that lists the attempts."""
    put(env, "a")
    for epoch in (1, 2):
        env.store.put(f"a/log/e{epoch}.jsonl", f"line {epoch}\n".encode())
    logs.run(env, "a", console=False, epoch=2)
    assert capsys.readouterr().out == "line 2\n"
    with pytest.raises(PermanentError, match="no log of attempt 3, only of 1, 2"):
        logs.run(env, "a", console=False, epoch=3)


def test_purge_names_what_it_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question names the storage that is really used."""
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(purge, "confirm", asked.append)
    purge.purge_storage(open_environment(from_environ({}, None)), yes=False)
    assert str(tmp_path) in asked[0]


def test_end_of_input_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D at the question removes nothing."""

    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert not confirm("sure?")


@pytest.mark.parametrize("words", [("download", "file"), ("states", "--write", "none/such")])
def test_a_file_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A file that cannot be written is reported in one line, without a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUEUE_URL", raising=False)
    (tmp_path / "file").write_text("")
    assert main(words) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_max_jobs_is_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`--max-jobs` below 1 is refused."""
    assert main(("worker", "--max-jobs", "-1")) == 2
    assert "'-1' is not a whole number, 1 or more" in capsys.readouterr().err


# ---- settings ----


def test_settings_may_be_in_their_own_table(tmp_path: Path) -> None:
    """Settings may be in a `[holdfast]` table of a shared file."""
    file = tmp_path / "holdfast.toml"
    file.write_text('[holdfast]\nLEASE = "60s"\nHEARTBEAT = 5\n')
    assert from_environ({}, file).lease == timedelta(seconds=60)
    file.write_text("[holdfast]\nCOLOUR = 1\n")
    with pytest.raises(ConfigError, match="COLOUR"):
        from_environ({}, file)


@pytest.mark.parametrize("setting", [{"LEASE": "20s"}, {"LEASE": "12h"}, {"HEARTBEAT": "31s"}])
def test_a_conflict_of_two_settings_names_their_origin(setting: dict[str, str]) -> None:
    """An error about two settings that contradict each other names the origin of each."""
    with pytest.raises(ConfigError, match="environment"):
        from_environ(setting, None)
