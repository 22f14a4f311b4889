"""Naming jobs by patterns, labels and states; removing jobs; and what `submit` refuses to guess."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.config.composition import open_environment
from client.config.environment import Environment
from client.config.settings import current_settings, from_environ
from client.operations.removal import plan_removal, remove
from client.operations.submission import JobRequest, differences
from client.records.selection import Selection, select
from lifecycle.errors import ConfigError, PermanentError
from lifecycle.job_record import CheckpointRef, JobRecord, Result
from lifecycle.key_layout import KeyLayout
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import FINAL, State

Run = Callable[..., tuple[int, str, str]]

JOBS = (
    JobRecord("md-1", "relax", state=State.RUNNING, owner="n", lease_s=40_000, epoch=1, labels={"team": "bio"}),
    JobRecord("md-2", "relax", state=State.FAILED, labels={"team": "bio"}),
    JobRecord("md-10", "relax", state=State.COMPLETED),
    JobRecord("fold-1", "fold", state=State.FAILED),
)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    clock, settings = ManualClock(), from_environ({}, None)
    store = MemoryStore(clock)
    record_store = RecordStore(store, clock, random.Random(1))
    made = Environment(settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(""), "", settings.limits())
    for record in JOBS:
        store.put(made.layout.job(record.job).record, encode_record(record))
    return made


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(["md-1", "nowhere"]), ["md-1", "nowhere"]),
        (Selection(["md-?"]), ["md-1", "md-2"]),
        (Selection(["md-*", "fold-1"]), ["fold-1", "md-1", "md-10", "md-2"]),
        (Selection(["md-[!1]*"]), ["md-2"]),
        (Selection(labels={"team": "bio"}), ["md-1", "md-2"]),
        (Selection(["md-*"], states=[State.FAILED]), ["md-2"]),
        (Selection(states=[State.FAILED]), ["fold-1", "md-2"]),
        (Selection(["md-2"], labels={"team": "bio"}), ["md-2"]),
    ],
    ids=["ids", "one letter", "pattern and id", "negated set", "label", "pattern and state", "state", "id and label"],
)
def test_jobs_are_named_by_ids_patterns_labels_and_states(
    memory: Environment, selection: Selection, found: list[str]
) -> None:
    """Patterns, labels and states select among the jobs that exist; ids alone are taken as they are."""
    assert select(memory, selection) == found


def test_a_pattern_selects_only_jobs_with_something_to_do(memory: Environment) -> None:
    """A command acts on those jobs of a pattern that it can act on, and on each id that is given."""
    assert select(memory, Selection(["md-*"]), among=FINAL) == ["md-10", "md-2"]
    assert select(memory, Selection(["md-*", "md-1"]), among=FINAL) == ["md-1", "md-10", "md-2"]
    assert select(memory, Selection(["md-1"]), among=FINAL) == ["md-1"]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(["xx-*"]), "no job matches 'xx-\\*': `holdfast status` lists"),
        (Selection(["md-*", "yy-?"]), "no job matches 'yy-\\?'"),
        (Selection(labels={"team": "art"}), "no job matches label team=art"),
        (Selection(["fold-1"], labels={"team": "bio"}), "no job matches 'fold-1'"),
        (Selection(states=[State.CANCELLED]), "no job matches state cancelled"),
    ],
)
def test_a_selection_without_a_job_is_an_error(memory: Environment, selection: Selection, said: str) -> None:
    """If a pattern, label or state matches nothing, that is named: it is probably misspelt."""
    with pytest.raises(PermanentError, match=said):
        select(memory, selection)


def test_nothing_is_never_everything(memory: Environment) -> None:
    """Without a name, label or state, no job is selected."""
    with pytest.raises(ConfigError, match="name jobs"):
        select(memory, Selection())


# ---- removal ----


def test_only_jobs_that_are_over_are_removed(memory: Environment) -> None:
    """A job that is not over, not published, archived or unknown is not removed, and the reason says what to do."""
    unpublished = JobRecord("u", "s", state=State.COMPLETED, result=Result(CheckpointRef("m", "d", 1), 1, 1))
    memory.store.put(memory.layout.job("u").record, encode_record(unpublished))
    memory.store.put(memory.layout.job("old").tombstone, b"{}")
    for job, why in (
        ("md-1", "is running: cancel it first"),
        ("u", "has still to publish"),
        ("old", "is archived"),
        ("none", "no such job"),
        ("a b", "not a valid job id"),
    ):
        with pytest.raises(PermanentError, match=why):
            plan_removal(memory, job)


def test_the_record_goes_first_and_a_broken_removal_is_completed(memory: Environment) -> None:
    """The record is deleted before anything else; what an interruption leaves is deleted by the next removal."""
    keys = memory.layout.job("md-2")
    for name in ("input/x", "log/e1.jsonl", "packs/e1/1"):
        memory.store.put(f"{keys.folder}{name}", b"12345")
    memory.store.put(keys.pin(3), b"{}")
    memory.store.put("md-22/input/x", b"another job")
    memory.store.delete([keys.record])  # the power fails here
    assert plan_removal(memory, "md-2").record is None
    assert remove(memory, "md-2") == "removed, 4 objects, 17 B"
    assert [*memory.store.list(keys.folder), *memory.store.list(keys.pins)] == []
    assert memory.store.get("md-22/input/x") is not None


# ---- the commands ----


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    for name in ("QUEUE_URL", "BUCKET", "PREFIX", "HOLDFAST_HOME", "WORKLOADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    made = open_environment(current_settings())
    for record in JOBS:
        put(made, record)
    return made


def put(env: Environment, record: JobRecord) -> None:
    env.store.put(env.layout.job(record.job).record, encode_record(record))


def state(env: Environment, job: str) -> State | None:
    stored = env.record_store.read(env.layout.job(job).record)
    return stored.record.state if stored else None


def test_status_of_a_pattern(run: Run) -> None:
    """`status 'md-*'` lists the matching jobs, and names a pattern or id that matches none."""
    code, out, _ = run("status", "md-*", "-o", "name")
    assert (code, out.split()) == (0, ["md-1", "md-10", "md-2"])
    assert run("status", "-l", "team=bio", "-o", "name")[1].split() == ["md-1", "md-2"]
    code, out, err = run("status", "md-?", "xx-*", "nowhere", "-o", "name")
    assert (code, out.split()) == (1, ["md-1", "md-2"])
    assert "no job matches 'xx-*'" in err
    assert "no job matches 'nowhere'" in err


def test_retry_all_failed_jobs(env: Environment, run: Run) -> None:
    """`retry --failed` reopens all failed jobs, and with a pattern those of them that match."""
    assert run("retry", "--failed", "md-*")[0] == 0
    assert (state(env, "md-2"), state(env, "fold-1")) == (State.QUEUED, State.FAILED)
    assert run("retry", "--failed")[1] == "fold-1: queued again\n"


def test_cancel_by_label(env: Environment, run: Run) -> None:
    """`cancel -l` cancels the jobs with the label that are not over, and needs at least one name or label."""
    code, out, _ = run("cancel", "-l", "team=bio")
    assert code == 0
    assert out.startswith("md-1: cancellation requested")
    assert state(env, "md-2") is State.FAILED
    assert run("cancel")[0] != 0


def test_rm_asks_and_removes_whole_jobs(env: Environment, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rm` needs a yes, removes the jobs that are over with all their objects, and reports the others."""
    env.store.put("md-2/input/x", b"1")
    assert run("rm", "md-2")[0] == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert run("rm", "md-2")[0] == 1
    assert state(env, "md-2") is State.FAILED
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    code, out, err = run("rm", "md-2", "md-1")
    assert (code, out) == (1, "md-2: removed, 1 objects, 1 B\n")
    assert "md-1: is running: cancel it first" in err
    assert state(env, "md-2") is None
    assert run("rm", "--yes", "*-1*")[0] == 0
    assert [state(env, job) for job in ("md-1", "md-10", "fold-1")] == [State.RUNNING, None, None]


# ---- submit ----


def test_an_empty_argument_is_refused(env: Environment, run: Run) -> None:
    """An empty argument, such as an unset variable in a script, is an error and not the current folder."""
    (Path.cwd() / "sub").mkdir()
    code, _, err = run("submit", "--no-input", "a", "")
    assert code != 0
    assert "an argument is empty" in err
    assert state(env, "a") is None


def test_an_existing_folder_is_a_folder_and_anything_else_a_job(env: Environment, run: Run, tmp_path: Path) -> None:
    """A folder's sub-folders are jobs, and those that cannot be are reported as `upload` does; other names are ids."""
    for name in ("b1", "b2", "not a job"):
        (tmp_path / "local_jobs" / name).mkdir(parents=True)
    code, out, err = run("submit", "--no-input", "local_jobs", "a")
    assert (code, out) == (1, "3 submitted\n")
    assert "local_jobs/not a job: the name is not a valid job id" in err
    assert [state(env, job) for job in ("a", "b1", "b2", "local_jobs")] == [State.QUEUED] * 3 + [None]
    code, _, err = run("submit", "--no-input", "no/such")
    assert code != 0
    assert "'no/such' is neither an existing folder nor a valid job id" in err


def test_a_job_without_input_is_an_error_before_anything_is_sent(env: Environment, run: Run) -> None:
    """Without an input in the bucket nothing is submitted, unless --no-input says that this is meant."""
    env.store.put("a/input/x", b"1")
    env.store.put("b/input.txt", b"1")
    code, out, err = run("submit", "a", "b", "localjobs")
    assert (code, out) == (1, "")
    assert "nothing was submitted: localjobs has no input under localjobs/input/" in err
    assert "--no-input" in err
    assert env.queue.depth().available == 0
    assert run("submit", "a", "b")[0] == 0
    assert run("submit", "--no-input", "c")[0] == 0
    env.store.delete(["a/input/x"])
    assert run("submit", "a")[0] == 0  # it was submitted before: nothing starts because of that


def test_a_resubmission_with_other_work_is_refused(env: Environment, run: Run) -> None:
    """A job keeps its work: the difference is shown, nothing is changed, and the exit code tells."""
    words = ("submit", "--no-input", "a", "--param", "t=300", "--label", "team=bio")
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0
    code, out, err = run("submit", "--no-input", "a", "--param", "t=310", "--param", "n=1")
    assert (code, out) == (1, "1 refused\n")
    assert "a: refused: it is queued, and was submitted with n not set, now 1; t 300, now 310; label team" in err
    assert "holdfast rm" in err
    refused = json.loads(run("submit", "--no-input", "a", "--json")[1])
    assert refused["outcome"] == "refused"
    assert env.queue.depth().available == 1


def test_differences_are_exact() -> None:
    """Values of another type differ, even if Python calls them equal; the order of keys does not matter."""
    record = JobRecord("a", "s", {"x": 1, "deep": {"b": 1, "a": 2}})
    assert differences(record, JobRequest("a", "s", {"x": True, "deep": {"a": 2, "b": 1}})) == ["x 1, now true"]
    assert differences(evolve(record, workload="t"), JobRequest("a", "s", dict(record.params))) == [
        "workload 't', now 's'"
    ]


def test_an_unknown_workload_is_a_warning(env: Environment, run: Run, tmp_path: Path) -> None:
    """A workload that the workloads file lacks is named, with the one that was probably meant; the job is submitted."""
    (tmp_path / "workloads.toml").write_text('[relax]\ncommand = "true"\n')
    code, _, err = run("submit", "--no-input", "a", "--workload", "relx")
    assert code == 0
    assert "warning: workload 'relx' is not in workloads.toml (did you mean 'relax'?)" in err
    assert "warning" not in run("submit", "--no-input", "b", "--workload", "relax")[2]
    assert state(env, "a") is State.QUEUED


def test_uploads_downloads_and_verifications_as_json(run: Run, tmp_path: Path) -> None:
    """`upload`, `download` and `verify` print JSON on request, with the problems that stderr names."""
    (tmp_path / "jobs" / "new").mkdir(parents=True)
    (tmp_path / "jobs" / "new" / "x").write_text("x")
    (tmp_path / "jobs" / "not a job").mkdir()
    code, out, _ = run("upload", "jobs", "--json")
    uploaded = json.loads(out)
    assert (code, uploaded["jobs"], uploaded["files"], len(uploaded["problems"])) == (1, 1, 1, 1)
    code, out, _ = run("download", "out", "md-10", "--json")
    assert (code, json.loads(out)) == (0, {"completed": 0, "files": 0, "bytes": 0, "problems": []})
    assert run("verify", "md-10", "--json") == (0, "", "")
