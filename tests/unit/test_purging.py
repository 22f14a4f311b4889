"""`purge storage` removes what Holdfast wrote, names what it leaves, and finishes what an interruption left."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.operators import memory_environment

from adapters.memory.store import MemoryStore
from client.commands import purge
from client.config.environment import Environment
from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.record.codec import encode_record

FOREIGN = (
    "notes.txt",
    "datasets/train/input/x",
    "a/notes.txt",
    "a/inputs/x",
    "c/input/never-submitted",
    "c/output/x",
    "other/.holdfast/records/a.json",
    "other/a/output/x",
    "ä/output/x",
)


def environment(tmp_path: Path, prefix: str = "") -> Environment:
    """Return an environment in memory."""
    return memory_environment(prefix, home=str(tmp_path), bucket="bucket")


def fill(env: Environment) -> tuple[set[str], set[str]]:
    """Write objects of two jobs, of archived ones and of others; return the keys of ours and of the others."""
    under = env.layout.under
    a, b = env.layout.job("a"), env.layout.job("b")
    ours = {
        a.record,
        b.tombstone,
        *(f"{a.folder}{name}" for name in ("input/x/y", "input.txt", "state.txt", "logs.txt", "output/z")),
        a.manifest(1, 1, "t"),
        a.pack(1, 1, "t"),
        a.log(1),
        a.console(1, 0),
        f"{b.output}x",
        env.layout.segment("s"),
        f"{env.layout.rejected}m.json",
        env.layout.job("d").pack(3, 1, "t"),  # of a job whose record is lost
    }
    others = {under(key) for key in FOREIGN} | ({"a/output/x", "outside"} if env.layout.prefix else set())
    for key in ours | others:
        env.store.put(key, b"x")
    env.store.put(a.record, encode_record(JobRecord("a", "series-sum")))
    return ours, others


def keys(env: Environment) -> set[str]:
    return {one.key for one in env.store.list("")}


@pytest.mark.parametrize("prefix", ["", "runs", "runs/deep"])
def test_only_what_holdfast_wrote_is_removed(tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects that no job owns, and those of other prefixes, are left and named, with and without PREFIX."""
    env = environment(tmp_path, prefix)
    ours, others = fill(env)
    assert purge.purge_storage(env, yes=True) == 0
    assert keys(env) == others
    out = capsys.readouterr().out
    assert f"deleted {len(ours)} objects" in out
    assert f"{len(FOREIGN)} objects are left" in out
    for named in ("notes.txt (1)", "datasets/ (1)", "a/ (2)", "c/ (2)", "other/ (2)"):
        assert named in out


def test_the_question_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is removed, the question counts the objects, and those that will be left."""
    env = environment(tmp_path)
    ours, others = fill(env)
    asked: list[str] = []
    monkeypatch.setattr(purge, "confirm", asked.append)
    assert purge.purge_storage(env, yes=False) == 1
    assert f"delete {len(ours)} objects" in asked[0]
    assert f"{len(others)} objects are left" in asked[0]
    assert keys(env) == ours | others


@pytest.mark.parametrize("calls", range(4))
def test_an_interrupted_purge_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """After an interruption between any two calls, the next purge still knows the jobs, and finishes."""
    env = environment(tmp_path)
    _, others = fill(env)
    real, done = MemoryStore.delete, [0]

    def delete(self: MemoryStore, keys: Any) -> None:
        if done[0] == calls:
            raise RetryableError("interrupted")
        done[0] += 1
        real(self, keys)

    monkeypatch.setattr(MemoryStore, "delete", delete)
    with suppress(RetryableError):
        purge.purge_storage(env, yes=True)
    monkeypatch.setattr(MemoryStore, "delete", real)
    purge.purge_storage(env, yes=True)
    assert keys(env) == others


def test_records_are_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner whose record is gone writes no more, so records go before the data that it could still write."""
    env = environment(tmp_path)
    fill(env)
    removed: list[str] = []
    monkeypatch.setattr(MemoryStore, "delete", lambda _, keys: removed.extend(keys))
    purge.purge_storage(env, yes=True)
    assert set(removed[:2]) == {env.layout.job("a").record, env.layout.job("b").tombstone}
