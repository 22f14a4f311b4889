"""Checkpoints that are kept: by garbage collection, by pins and milestones; listing them, and going back to one."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from support.cluster import LAYOUT, Cluster
from support.operators import environment_of

from client.cli import main
from client.commands import checkpoints, retry, verify
from client.config.environment import Environment
from client.operations import checkpoints as operations
from lifecycle.errors import PermanentError
from lifecycle.evidence import HighWaterMark
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.record import pins
from lifecycle.record.pins import list_pins
from lifecycle.record.usability import Commit, with_commit
from lifecycle.states import State

KEYS = LAYOUT.job("a")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster(tmp_path)
    made.submit("a", "1\n2000\n")
    return made


@pytest.fixture
def env(cluster: Cluster) -> Environment:
    return environment_of(cluster)


def run_for(cluster: Cluster, seconds: int, **workload: object) -> None:
    """Run the job for *seconds* with a checkpoint each minute, until it pauses."""
    cluster.worker(max_running_time=timedelta(seconds=seconds), max_jobs=1, workload=workload).run()


def fail(cluster: Cluster) -> JobRecord:
    """Let the job fail for good; its last two failed resumes give up its checkpoint."""
    cluster.worker(script=lambda *_: 3).run()
    record = cluster.record("a")
    assert record.state is State.FAILED
    return record


def listed(env: Environment, capsys: pytest.CaptureFixture[str]) -> dict[int, list[str]]:
    """Return the roles of each kept checkpoint, by its number, as `holdfast checkpoints --json` prints them."""
    capsys.readouterr()
    assert checkpoints.run(env, "a", as_json=True) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {row["seq"]: row["roles"] for row in rows}


def stored_numbers(cluster: Cluster) -> list[int]:
    """Return the numbers of all manifests in the bucket."""
    keys = [key for key in cluster.keys_of("a") if key.startswith(KEYS.manifests)]
    return sorted(int(key.rpartition("/")[2][:6]) for key in keys)


def test_the_checkpoint_that_an_attempt_went_beyond_is_kept(
    cluster: Cluster, env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    """Garbage collection spares the newest checkpoint that proved usable, whole, until a newer one does."""
    run_for(cluster, 130)
    run_for(cluster, 250)
    resumed_from = cluster.record("a").attempts[-1].resumed_from
    assert resumed_from is not None
    record = cluster.record("a")
    assert record.checkpoint is not None
    assert record.checkpoint.seq > resumed_from + 2
    assert listed(env, capsys)[resumed_from] == ["proven"]
    assert verify.run(env, ["a"], checkpoint=resumed_from) == 0
    assert stored_numbers(cluster) == sorted(listed(env, capsys))
    last = record.checkpoint.seq
    run_for(cluster, 200)
    assert resumed_from not in stored_numbers(cluster)
    assert listed(env, capsys)[last] == ["proven"]


def test_the_newest_announced_checkpoint_stays_named() -> None:
    """Commits that were not announced never displace the newest announced checkpoint from the record."""
    record = JobRecord("a", "w")
    for seq, announced in ((1, True), (2, False), (3, False), (4, False)):
        ref = CheckpointRef(f"m{seq}", "d", seq, step=seq)
        record = with_commit(record, Commit(ref, record.checkpoint, is_announced=announced))
    assert record.announced is not None
    assert record.announced.seq == 1


def test_a_suspect_is_kept_until_the_job_gets_further(
    cluster: Cluster, env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that was given up is listed and intact, so that an operator can go back to it."""
    run_for(cluster, 130)
    fail(cluster)
    assert listed(env, capsys) == {2: ["current"], 3: ["suspect", "announced"]}
    assert verify.run(env, ["a"], checkpoint=3) == 0


def test_a_pinned_checkpoint_survives_until_it_is_unpinned(
    cluster: Cluster, env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pin keeps a checkpoint through any number of commits; without it, the next attempt's commits remove it."""
    run_for(cluster, 130)
    assert checkpoints.run(env, "a", pin=2) == 0
    for _ in range(3):
        run_for(cluster, 130)
    assert listed(env, capsys)[2] == ["pinned"]
    assert verify.run(env, ["a"], checkpoint=2) == 0
    assert checkpoints.run(env, "a", unpin=2) == 0
    run_for(cluster, 130)
    assert 2 not in stored_numbers(cluster)
    assert 2 not in listed(env, capsys)


def test_pins_are_not_in_the_record(cluster: Cluster, env: Environment) -> None:
    """A pin writes no record, which would renew the lease of a dead owner, and is no record of a job."""
    run_for(cluster, 130)
    written = cluster.stored("a").version
    checkpoints.run(env, "a", pin=3)
    assert cluster.stored("a").version == written
    assert [listed.key for listed in cluster.memory.list(LAYOUT.records)] == [KEYS.record]


def test_only_what_is_kept_can_be_pinned(cluster: Cluster, env: Environment) -> None:
    """Pinning or unpinning anything else is an error that names what there is."""
    run_for(cluster, 130)
    with pytest.raises(PermanentError, match="no checkpoint 77; those that are kept: 2, 3"):
        checkpoints.run(env, "a", pin=77)
    with pytest.raises(PermanentError, match="checkpoint 3 is not pinned"):
        checkpoints.run(env, "a", unpin=3)


def test_race_pin_and_collection(cluster: Cluster, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin whose checkpoint is dropped meanwhile is refused and removed: nothing proves that it was in time."""
    run_for(cluster, 130)
    put = pins.put_pin

    def put_late(*args: object) -> None:
        run_for(cluster, 250)  # which drops checkpoint 2
        put(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(operations, "put_pin", put_late)
        with pytest.raises(PermanentError, match="no longer has checkpoint 2"):
            checkpoints.run(env, "a", pin=2)
    assert list_pins(cluster.memory, KEYS) == []

    def put_in_time(*args: object) -> None:
        put(*args)  # type: ignore[arg-type]
        run_for(cluster, 250)

    current = cluster.record("a").fallback
    assert current is not None
    with monkeypatch.context() as patch:
        patch.setattr(operations, "put_pin", put_in_time)
        with pytest.raises(PermanentError, match="no longer has"):
            checkpoints.run(env, "a", pin=current.seq)


def test_nothing_is_removed_while_pins_cannot_be_read(cluster: Cluster) -> None:
    """A damaged pin might name anything, so no collection removes an older checkpoint."""
    cluster.memory.put(KEYS.pin(1), b"nonsense")
    run_for(cluster, 310)
    assert stored_numbers(cluster)[:5] == [1, 2, 3, 4, 5]
    log = cluster.memory.get(KEYS.log(1))
    assert log is not None
    assert b"collection_failed" in log.body


def test_milestones_are_kept(cluster: Cluster, env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """With `keep = "every 3"`, the first checkpoint of each three numbers is kept for good."""
    run_for(cluster, 250, keep_every=3)
    run_for(cluster, 250, keep_every=3)
    run_for(cluster, 250, keep_every=3)
    milestones = [seq for seq, roles in listed(env, capsys).items() if "milestone" in roles]
    last = max(stored_numbers(cluster))
    assert [seq // 3 for seq in milestones] == list(range(1, last // 3 + 1))
    for seq in milestones:
        assert verify.run(env, ["a"], checkpoint=seq) == 0


def test_a_job_goes_on_from_the_checkpoint_before(cluster: Cluster, env: Environment) -> None:
    """`retry --from-checkpoint previous` and `--from-checkpoint N` choose where to go on; a suspect may be chosen."""
    run_for(cluster, 250)
    record = fail(cluster)
    assert record.checkpoint is not None
    assert [ref.seq for ref in record.suspects] == [5]
    assert retry.run(env, ["a"], from_checkpoint="5") == 0
    again = cluster.record("a")
    assert again.checkpoint == record.suspects[0]
    assert again.fallback == record.checkpoint
    assert again.suspects == ()
    fail(cluster)
    assert retry.run(env, ["a"], from_checkpoint="previous") == 1  # nothing is before it


def test_progress_counts_from_the_chosen_checkpoint(cluster: Cluster, env: Environment) -> None:
    """What goes beyond the checkpoint that an operator chose is progress, and new numbers follow all old ones."""
    run_for(cluster, 130)
    checkpoints.run(env, "a", pin=2)
    run_for(cluster, 310)
    fail(cluster)
    assert retry.run(env, ["a"], from_checkpoint="2") == 0
    record = cluster.record("a")
    assert record.checkpoint is not None
    highest = record.mark.seq
    assert (record.checkpoint.seq, record.mark.step) == (2, record.checkpoint.step)
    run_for(cluster, 70)
    record = cluster.record("a")
    assert record.attempts[-1].resumed_from == 2
    assert record.checkpoint is not None
    assert record.checkpoint.seq > highest
    assert record.attempts[-1].commits > 0


def test_an_unknown_checkpoint_reopens_nothing(
    cluster: Cluster, env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job whose checkpoint does not exist stays as it is, and the message says which there are."""
    run_for(cluster, 130)
    fail(cluster)
    assert retry.run(env, ["a"], from_checkpoint="9") == 1
    assert "has no checkpoint 9; those that are kept: 2, 3" in capsys.readouterr().err
    assert cluster.record("a").state is State.FAILED
    assert verify.run(env, ["a"], checkpoint=9) == 1


def test_the_table_says_what_each_checkpoint_is(
    cluster: Cluster, env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table for people has number, quality, step, size and role of each checkpoint."""
    run_for(cluster, 130)
    checkpoints.run(env, "a", pin=3)
    head, second, third, summary = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["number", "quality", "step", "size", "age"]
    assert second.split()[:3] == ["2", "announced", "120"]
    assert third.endswith("current, announced, pinned")
    assert summary == "2 checkpoints of a"


def test_the_command_line_takes_one_origin(capsys: pytest.CaptureFixture[str]) -> None:
    """A job is reopened from the start or from a checkpoint, not both; a checkpoint has a number from 1."""
    for words in (
        ["--from-start", "--from-checkpoint", "3"],
        ["--from-checkpoint", "0"],
        ["--from-checkpoint", "last"],
    ):
        assert main(["retry", "a", *words]) == 2
        assert "--from-checkpoint" in capsys.readouterr().err


def test_going_back_by_hand_grants_the_fallback_again(cluster: Cluster, env: Environment) -> None:
    """After a retry, nothing is held against the chosen checkpoint."""
    run_for(cluster, 130)
    fail(cluster)
    retry.run(env, ["a"], from_checkpoint="3")
    mark = cluster.record("a").mark
    assert isinstance(mark, HighWaterMark)
    assert (mark.failed_resumes, mark.fell_back) == (0, False)
