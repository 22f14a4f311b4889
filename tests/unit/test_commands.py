"""Each command of the client, on files in a temporary folder, called through the `main` of the installed command."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from support.checkpoint_fixture import keep

from client.cli import main
from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import current_settings
from lifecycle.job_record import JobRecord, Result
from lifecycle.record.codec import encode_record
from lifecycle.record.message import parse_message
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    for name in ("QUEUE_URL", "BUCKET", "PREFIX", "HOLDFAST_HOME", "WORKLOADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_CONFIG", "")  # `--config` sets it
    return open_environment(current_settings())


def record_of(env: Environment, job: str) -> JobRecord:
    return held_of(env, job).record


def held_of(env: Environment, job: str) -> StoredRecord:
    stored = env.record_store.read(env.layout.job(job).record)
    assert stored is not None
    return stored


def put(env: Environment, record: JobRecord) -> None:
    """Write *record*, over any that exists."""
    env.store.put(env.layout.job(record.job).record, encode_record(record))


def complete(env: Environment, job: str, text: str, tmp_path: Path) -> None:
    """Record *job* as completed, with *text* as its output."""
    folder = tmp_path / f"made-{job}" / "output"
    folder.mkdir(parents=True)
    (folder / "output.txt").write_text(text)
    keys = env.layout.job(job)
    saved = keep(env.store, keys, folder.parent)
    result = Result(saved.ref, files=1, bytes=len(text), published=True)
    put(env, JobRecord(job, "series-sum", state=State.COMPLETED, epoch=1, result=result, checkpoint=saved.ref))
    env.store.put(keys.log(1), b'{"at": "t", "epoch": 1, "node": "n", "event": "completed"}\n')


# ---- upload ----


def test_upload_makes_each_sub_folder_a_job(env: Environment, run: Run, tmp_path: Path) -> None:
    """Each subfolder becomes a job, and its files keep their paths below `input/`."""
    for name in ("a/input.txt", "b/deep/data.bin"):
        path = tmp_path / "jobs" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    assert run("upload", "jobs")[0] == 0
    assert [listed.key for listed in env.store.list("")] == ["a/input/input.txt", "b/input/deep/data.bin"]


def test_upload_reports_invalid_folders_and_uploads_the_rest(env: Environment, run: Run, tmp_path: Path) -> None:
    """Empty folders and names that are not job ids are reported, and the other folders are uploaded."""
    for name in ("empty", "not an id", "good"):
        (tmp_path / "jobs" / name).mkdir(parents=True)
    (tmp_path / "jobs" / "not an id" / "x").write_text("x")
    (tmp_path / "jobs" / "good" / "x").write_text("x")
    code, out, err = run("upload", "jobs")
    assert code == 1
    assert "jobs/empty: is empty" in err
    assert "jobs/not an id: the name is not a valid job id" in err
    assert "1 files of 1 jobs" in out
    assert [listed.key for listed in env.store.list("")] == ["good/input/x"]


def test_upload_leaves_the_input_of_an_unfinished_job_alone(env: Environment, run: Run, tmp_path: Path) -> None:
    """The input of an unfinished job is not changed."""
    put(env, JobRecord("a", "series-sum", state=State.RUNNING))
    (tmp_path / "jobs" / "a").mkdir(parents=True)
    (tmp_path / "jobs" / "a" / "input.txt").write_text("new")
    code, _, err = run("upload", "jobs")
    assert code == 1
    assert "the job is running" in err


@pytest.mark.parametrize(
    "words",
    [
        ("upload", "nowhere"),
        ("submit",),
        ("submit", "no such"),
        ("submit", "a", "--param", "x"),
        ("submit", "a", "--label", "x"),
        ("submit", "--from", "nowhere.jsonl"),
        ("status", "--state", "runing"),
        ("status", "--sort", "colour"),
        ("status", "--since", "yesterday"),
        ("report", "--by", "colour"),
        ("report", "--price", "cheap"),
        ("report", "--call-price", "x=y"),
        ("reconcile", "--older", "soon"),
        ("archive", "--older", "1s"),
        ("worker", "--idle-exit", "never"),
        ("exporter", "--every", "0.1s"),
    ],
)
def test_a_wrong_command_prints_one_line_and_exits_2(run: Run, words: tuple[str, ...]) -> None:
    """A wrong command prints one line on stderr, does nothing, and exits with 2."""
    code, out, err = run(*words)
    assert code == 2
    assert err.startswith("holdfast: ")
    assert err.count("\n") == 1
    assert not out


# ---- submit ----


def test_submit_writes_a_record_and_sends_a_message(env: Environment, run: Run) -> None:
    """Each submitted job has a queued record and a message."""
    assert run("submit", "--no-input", "a", "b", "--param", "x=1", "--param", "y=hot")[:2] == (0, "2 submitted\n")
    record = record_of(env, "a")
    assert (record.state, record.params, record.dispatch) == (State.QUEUED, {"x": 1, "y": "hot"}, 1)
    assert env.queue.depth().available == 2


def test_submitting_twice_sends_one_message(env: Environment, run: Run) -> None:
    """A job submitted again is reported as already submitted, and gets no second message."""
    run("submit", "--no-input", "a")
    code, out, err = run("submit", "--no-input", "a", "a", "b")
    assert code == 0
    assert out == "1 submitted, 1 already submitted\n"
    assert "a: already submitted: it is queued" in err
    assert env.queue.depth().available == 2


def test_submit_takes_a_folder_and_a_file_of_jobs(env: Environment, run: Run, tmp_path: Path) -> None:
    """Jobs come from the subfolders of a folder and from the lines of a file, which may set workload and parameters."""
    (tmp_path / "jobs" / "a").mkdir(parents=True)
    (tmp_path / "more.jsonl").write_text('{"job": "b", "workload": "relax", "params": {"t": 1}}\n\n{"job": "c"}\n')
    assert run("submit", "--no-input", "jobs", "--from", "more.jsonl", "--param", "t=0")[0] == 0
    assert record_of(env, "a").workload == "series-sum"
    assert (record_of(env, "b").workload, record_of(env, "b").params) == ("relax", {"t": 1})
    assert record_of(env, "c").params == {"t": 0}


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"job": "a b"}', '{"job": "a", "colour": 1}', '{"job": "a", "params": 1}']
)
def test_an_invalid_line_is_named_and_nothing_is_submitted(
    env: Environment, run: Run, tmp_path: Path, line: str
) -> None:
    """An error names the file and the line, and nothing is written."""
    (tmp_path / "jobs.jsonl").write_text(f'{{"job": "good"}}\n{line}\n')
    code, _, err = run("submit", "--no-input", "--from", "jobs.jsonl")
    assert code == 78
    assert "jobs.jsonl, line 2" in err
    assert not list(env.store.list(""))


def test_submit_as_json_prints_one_object_per_job(run: Run) -> None:
    """`--json` prints one object per job, with its outcome."""
    lines = [json.loads(line) for line in run("submit", "--no-input", "a", "b", "--json")[1].splitlines()]
    assert sorted((line["job"], line["outcome"]) for line in lines) == [("a", "submitted"), ("b", "submitted")]


def test_reconcile_sends_messages_that_submit_did_not(env: Environment, run: Run) -> None:
    """Reconcile sends a message for each old unfinished job without an owner, and for no other."""
    run("submit", "--no-input", "a", "b")
    env.queue.purge()
    put(env, JobRecord("done", "series-sum", state=State.CANCELLED))
    put(env, JobRecord("owned", "series-sum", state=State.RUNNING, owner="n", lease_s=120))
    assert run("reconcile")[1] == "0 jobs had no fresh message\n"
    code, out, _ = run("reconcile", "--older", "0")
    assert code == 0
    assert "a: message sent" in out
    assert "2 jobs had no fresh message" in out
    assert env.queue.depth().available == 2
    assert record_of(env, "a").dispatch == 2
    assert run("reconcile", "--older", "0", "--dry-run")[1].count("needs a message") == 2
    assert env.queue.depth().available == 2


def test_reconcile_sends_messages_for_unpublished_jobs(env: Environment, run: Run, tmp_path: Path) -> None:
    """A completed job that is not published gets a message, so that a worker publishes it."""
    complete(env, "a", "x", tmp_path)
    record = record_of(env, "a")
    assert record.result is not None
    put(env, evolve(record, result=evolve(record.result, published=False)))
    assert "a: message sent" in run("reconcile", "--older", "0")[1]


# ---- status, queue, storage, logs ----


def test_status_as_json_has_the_documented_fields(env: Environment, run: Run) -> None:
    """Each line has the fields that docs/operations.md promises."""
    run("submit", "--no-input", "a")
    entry = json.loads(run("status", "--json")[1])
    assert entry["job"] == "a"
    assert {"job", "state", "epoch", "owner", "progress", "checkpoint", "failures", "result", "error"} <= entry.keys()
    assert {"done", "total"} <= entry["progress"].keys()


def test_status_shows_the_age_of_a_checkpoint(env: Environment, run: Run, tmp_path: Path) -> None:
    """A job's last checkpoint is shown with number, step and age."""
    complete(env, "a", "x", tmp_path)
    record = record_of(env, "a")
    assert record.checkpoint is not None
    put(env, evolve(record, checkpoint=evolve(record.checkpoint, step=7, at="2020-01-01T00:00:00.000+00:00")))
    checkpoint = json.loads(run("status", "a", "--json")[1])["checkpoint"]
    assert (checkpoint["seq"], checkpoint["step"]) == (1, 7)
    assert checkpoint["age_s"] > 86_400


def test_status_as_text_has_one_line_per_job_and_a_summary(env: Environment, run: Run) -> None:
    """Missing jobs and unreadable records are reported, and the others are still listed."""
    run("submit", "--no-input", "a")
    put(env, JobRecord("b", "series-sum", state=State.FAILED, error="no input\nand more"))
    env.store.put(env.layout.job("c").record, b"nonsense")
    code, out, err = run("status")
    assert code == 1
    assert out.splitlines()[-1] == "3 jobs, 1 failed, 1 queued, 1 unknown"
    assert "no input" in out
    assert "and more" not in out
    assert "c.json" in err
    assert run("status", "nowhere")[0] == 1


def test_a_stale_owner_is_shown(env: Environment, run: Run) -> None:
    """A job whose owner's lease has expired is shown as stale."""
    put(env, JobRecord("a", "series-sum", state=State.RUNNING, owner="n", lease_s=-10))
    assert re.search("running +stale ", run("status")[1])
    assert json.loads(run("status", "--json")[1])["stale"] is True


def test_queue_counts(run: Run) -> None:
    """`queue` counts available, in-flight and delayed messages, as text and as JSON."""
    run("submit", "--no-input", "a", "b")
    assert run("queue")[1].startswith("2 available, 0 in flight, 0 delayed")
    assert json.loads(run("queue", "--json")[1]) == {"available": 2, "in_flight": 0, "delayed": 0}


def test_storage_counts_objects_by_job(env: Environment, run: Run, tmp_path: Path) -> None:
    """`storage` counts objects and bytes by job and kind, and in total."""
    complete(env, "a", "12345", tmp_path)
    shares = {share["job"]: share for share in map(json.loads, run("storage", "--json")[1].splitlines())}
    assert shares["a"]["objects"] == 3
    assert shares["a"]["bytes"]["checkpoints"] > 5
    assert ".holdfast" in shares
    assert "4 objects" in run("storage")[1]


def test_logs_prints_every_attempt_in_order(env: Environment, run: Run) -> None:
    """Attempts are printed in numerical order, with one line per event."""
    put(env, JobRecord("a", "series-sum"))
    keys = env.layout.job("a")
    assert run("logs", "a") == (
        1,
        "",
        "holdfast: a has no log yet: logs are uploaded every 20 s, and when an attempt ends\n",
    )
    for epoch in (9, 10):
        line = {"at": "t", "epoch": epoch, "node": "n", "event": "checkpoint", "step": epoch}
        env.store.put(keys.log(epoch), f"{json.dumps(line)}\n".encode())
        for number in range(2):
            env.store.put(keys.console(epoch, number), b"hello"[number * 3 :][:3])
    assert run("logs", "a")[1] == "t  e9  n  checkpoint  step=9\nt  e10  n  checkpoint  step=10\n"
    assert run("logs", "a", "--console")[1] == "--- attempt 9 ---\nhello\n--- attempt 10 ---\nhello"
    assert run("logs", "nowhere")[0] == 1


# ---- download ----


def test_download_fetches_verifies_and_does_not_fetch_again(env: Environment, run: Run, tmp_path: Path) -> None:
    """Outputs, logs and, on request, the state are downloaded; files that are already there are not fetched again."""
    complete(env, "a", "result", tmp_path)
    run("submit", "--no-input", "b")
    code, out, _ = run("download", "out", "--state")
    assert code == 0
    assert "1 completed jobs, 3 files" in out
    assert (tmp_path / "out/a/output/output.txt").read_text() == "result"
    assert (tmp_path / "out/a/state/output/output.txt").read_text() == "result"
    assert (tmp_path / "out/a/log/e1.jsonl").exists()
    env.store.delete([listed.key for listed in env.store.list("a/packs/")])
    assert run("download", "out", "--state")[0] == 0


def test_download_does_not_mix_checkpoints(env: Environment, run: Run, tmp_path: Path) -> None:
    """A file of another checkpoint in the target is an error; a partial download is not."""
    complete(env, "a", "result", tmp_path)
    (tmp_path / "out/a/state/output").mkdir(parents=True)
    (tmp_path / "out/a/state/output/.holdfast-0123456789abcdef.part").write_text("half")
    assert run("download", "out", "--state")[0] == 0
    (tmp_path / "out/a/state/output/old.chk").write_text("of before")
    code, out, err = run("download", "out", "--state")
    assert code == 1
    assert "out/a/state/output/old.chk does not belong to this checkpoint: remove out/a/state and download again" in err
    assert "1 completed jobs, 2 files" in out
    assert (tmp_path / "out/a/state/output/old.chk").read_text() == "of before"


def test_download_rejects_damaged_files(env: Environment, run: Run, tmp_path: Path) -> None:
    """A file with the wrong hash is an error, and is not left in the target."""
    complete(env, "a", "result", tmp_path)
    (pack,) = [listed.key for listed in env.store.list("a/packs/")]
    env.store.put(pack, b"resulT")
    code, _, err = run("download", "out")
    assert code == 1
    assert "wrong bytes" in err
    assert not (tmp_path / "out/a/output/output.txt").exists()


# ---- cancel, retry, purge ----


def test_cancel_ends_a_waiting_job_at_once_and_under_a_new_epoch(env: Environment, run: Run) -> None:
    """A job without an owner is cancelled under a new epoch, so that a zombie cannot undo it."""
    run("submit", "--no-input", "a")
    assert run("cancel", "a")[:2] == (0, "a: cancelled\n")
    assert (record_of(env, "a").state, record_of(env, "a").epoch) == (State.CANCELLED, 1)
    code, _, err = run("cancel", "a", "nowhere")
    assert code == 1
    assert "a: is cancelled: there is nothing to cancel" in err
    assert "nowhere: there is no such job" in err


def test_cancel_asks_the_owner_of_a_running_job(env: Environment, run: Run) -> None:
    """The cancellation of an owned job is only requested: the owner carries it out."""
    put(env, JobRecord("a", "series-sum", state=State.RUNNING, owner="n", epoch=3, lease_s=120))
    assert run("cancel", "a")[1] == "a: cancellation requested; n ends the job at its next heartbeat\n"
    assert record_of(env, "a").control.cancel
    assert record_of(env, "a").epoch == 3


def test_cancel_ends_a_stale_job(env: Environment, run: Run) -> None:
    """A job whose lease has expired is cancelled at once, under a new epoch."""
    put(env, JobRecord("a", "series-sum", state=State.RUNNING, owner="n", epoch=3, lease_s=-10))
    assert run("cancel", "a")[1] == "a: cancelled\n"
    assert record_of(env, "a").epoch == 4


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_retry_reopens_a_job_and_sends_a_message(env: Environment, run: Run, tmp_path: Path, state: State) -> None:
    """A retried job is queued with its checkpoint and a new message; `--from-start` drops the checkpoint."""
    complete(env, "a", "x", tmp_path)
    before = evolve(record_of(env, "a"), state=state, result=None, failures=3, error="no", dispatch=4, ran_s=9.0)
    put(env, before)
    assert run("retry", "a")[0] == 0
    record = record_of(env, "a")
    assert (record.state, record.failures, record.error, record.epoch) == (State.QUEUED, 0, None, 2)
    assert record.checkpoint == before.checkpoint
    delivery = env.queue.receive(hidden=env.limits.lease, wait=env.limits.idle_exit)
    assert delivery is not None
    assert parse_message(delivery.body, layout=env.layout, bucket="").sequence == 5
    put(env, before)
    assert record.ran_s == 9.0
    run("retry", "a", "--from-start")
    record = record_of(env, "a")
    assert (record.checkpoint, record.ran_s) == (None, 0.0)


def test_retry_from_start_removes_the_state_of_a_demo_job(env: Environment, run: Run) -> None:
    """`--from-start` removes a demo job's `state.txt`, from which the worker would continue; a plain retry keeps it."""
    run("submit", "--no-input", "a")
    before = evolve(record_of(env, "a"), state=State.FAILED, demo=True, error="state.txt is of another input")
    state = f"{env.layout.job('a').folder}state.txt"
    for words, is_left in ((), True), (("--from-start",), False):
        put(env, before)
        env.store.put(state, b"1\n9\n4\n10\n")
        assert run("retry", "a", *words)[0] == 0
        assert (env.store.get(state) is not None) is is_left


def test_retry_refuses_unfinished_jobs(env: Environment, run: Run) -> None:
    """Only failed and cancelled jobs can be retried."""
    run("submit", "--no-input", "a")
    code, _, err = run("retry", "a")
    assert code == 1
    assert "a: is queued: only a failed or cancelled job can be retried" in err


def test_purge_needs_a_yes(env: Environment, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Purge requires the answer "yes", or `--yes` if there is no terminal."""
    run("submit", "--no-input", "a")
    assert run("purge", "storage")[0] == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert run("purge", "storage")[0] == 1
    assert run("purge", "queue")[0] == 1
    assert record_of(env, "a")
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert run("purge", "storage")[0] == 0
    assert run("purge", "queue", "--yes")[0] == 0
    assert not list(env.store.list(""))
    assert env.queue.depth().available == 0


# ---- the rest ----


def test_states_and_settings_are_printed(run: Run) -> None:
    """`states` and `settings` print text, and JSON on request."""
    assert run("states")[1].startswith("<!-- Generated")
    assert run("states", "--diagram")[1].startswith("stateDiagram-v2")
    assert json.loads(run("states", "--json")[1].splitlines()[0])["source"] == "queued"
    assert "LEASE" in run("settings")[1]
    assert json.loads(run("settings", "--json")[1].splitlines()[0])["name"] == "QUEUE_URL"


def test_the_parser_imports_no_heavy_module() -> None:
    """Printing the help of all commands imports no large dependency."""
    heavy = "boto3 botocore rich cattrs attr transitions tenacity"
    script = (
        "import sys, client.cli; client.cli.main(['--help']);"
        f" print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- show, report, doctor ----


def test_show_report_and_doctor_as_commands(env: Environment, run: Run, tmp_path: Path) -> None:
    """The commands parse their options, and exit with 2 if an option is invalid."""
    run("submit", "--no-input", "a", "--label", "set=x")
    code, out, _ = run("show", "a")
    assert code == 0
    assert "labels        set=x" in out
    assert json.loads(run("show", "a", "--json")[1])["labels"] == {"set": "x"}
    assert run("show", "nowhere")[0] == 1
    assert [json.loads(line)["jobs"] for line in run("report", "--by", "job", "--json")[1].splitlines()] == [1]
    assert run("report", "--by", "colour")[0] == 2
    assert run("report", "--plot", str(tmp_path / "none" / "x.svg"))[0] == 1
    assert run("doctor")[0] == 0
    assert run("setup", "--policies")[0] == 78
    assert run("status", "--label", "set=x")[1].splitlines()[-1] == "1 jobs, 1 queued"
    assert run("status", "--label", "set=y", "--reverse", "--limit", "1")[1].splitlines()[-1] == "0 jobs"


def test_submit_refuses_records_beyond_the_limits(env: Environment, run: Run, tmp_path: Path) -> None:
    """Parameters that are too large or too deep are refused, and the other jobs are submitted."""
    deep = json.loads("[" * 200 + "]" * 200)
    orders = [{"job": "a", "params": {"x": "y" * (600 << 10)}}, {"job": "b", "params": {"x": deep}}, {"job": "c"}]
    file = tmp_path / "orders.jsonl"
    file.write_text("".join(f"{json.dumps(order)}\n" for order in orders))
    code, _, err = run("submit", "--no-input", "--from", str(file))
    assert code == 1
    assert "a: failed: the record of a would have" in err
    assert "b: failed: the parameters of b are nested more than 100 deep" in err
    assert [listed.key for listed in env.store.list(env.layout.records)] == [env.layout.job("c").record]


# ---- jobs under other prefixes ----


def test_status_says_where_jobs_are(env: Environment, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are no jobs, as without PREFIX after messages of the demo, stderr names the prefixes that have some."""
    for key in (
        "demoapp2v2/.holdfast/records/job0.json",
        "demoapp2v2/job0/output/x",
        "z/deep/.holdfast/records/a.json",
    ):
        env.store.put(key, b"{}")
    code, out, err = run("status")
    assert (code, out) == (0, "0 jobs\n")
    assert "no jobs without a prefix, but there are under demoapp2v2, under z/deep: set PREFIX=demoapp2v2" in err
    code, out, err = run("status", "--json", "--state", "failed")
    assert (code, out, "set PREFIX=demoapp2v2" in err) == (0, "", True)
    monkeypatch.setenv("PREFIX", "demoapp2v1")
    assert "no jobs under demoapp2v1, but there are under demoapp2v2" in run("status")[2]
    monkeypatch.setenv("PREFIX", "demoapp2v2")
    assert "set PREFIX" not in run("status")[2]


def test_a_wrong_prefix_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong PREFIX, `status` says that the jobs have none; with jobs, or without any, it says nothing."""
    assert "prefix, but" not in run("status")[2]
    run("submit", "--no-input", "a")
    assert "prefix, but" not in run("status", "--state", "failed")[2]
    monkeypatch.setenv("PREFIX", "wrong")
    assert "no jobs under wrong, but there are without a prefix: unset PREFIX" in run("status")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("worker", "--max-jobs", "x"), "'x' is not a whole number, 1 or more"),
        (("worker", "--max-jobs", "0"), "'0' is not a whole number, 1 or more"),
        (("status", "--limit", "²"), "'²' is not a whole number, 1 or more"),
        (("logs", "a", "--epoch", "9" * 5000), "is not a whole number, 1 or more"),
        (("dashboard", "--port", "x"), "'x' is not a port from 0 to 65535"),
        (("exporter", "--port", "70000"), "'70000' is not a port from 0 to 65535"),
    ],
)
def test_an_invalid_number_is_explained(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number on the command line is checked by us, and no message names a function of ours."""
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "invalid" not in err


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "--from", "x" * 300),
        ("submit", "--from", "."),
        ("download", "x" * 300),
        ("report", "--csv", "x" * 300),
        ("states", "--write", "none/such"),
        ("--config", "x" * 300, "status"),
    ],
)
def test_no_message_is_in_pythons_notation(run: Run, words: tuple[str, ...]) -> None:
    """An error of the operating system is told in words, with the file, and not as `[Errno 36] …`."""
    code, _, err = run(*words)
    assert code in {1, 2, 78}
    assert err.startswith("holdfast: ")
    assert "Errno" not in err
    assert words[-1] in err or words[1] in err


@pytest.mark.parametrize("line", ["nonsense", '{"job": NaN}', "[" * 100_000], ids=["nonsense", "NaN", "deep"])
def test_a_line_that_is_not_json_is_told_in_words(run: Run, tmp_path: Path, line: str) -> None:
    """An invalid line is told in our words, not in those of Python's parser."""
    (tmp_path / "jobs.jsonl").write_text(f"{line}\n")
    code, _, err = run("submit", "--no-input", "--from", "jobs.jsonl")
    assert code == 78
    assert "not JSON" in err or "nested too deeply" in err
    assert "Expecting" not in err
