"""Files at the boundary to a program: what it leaves is saved as it is, or the job says what could not be saved."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from attrs import evolve
from support.checkpoint_fixture import as_schema_2
from support.cluster import LAYOUT, Cluster
from support.unprivileged import unprivileged

from adapters.memory.runner import FakeWorkload
from lifecycle.job_record import JobRecord
from lifecycle.ports.runner import Launch
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def at(step: int, act: Callable[[Launch], None], *, epoch: int | None = None) -> Callable[[Launch, int], int | None]:
    """Return a script in which the program does *act* before a step, in each attempt or in one."""

    def script(launch: Launch, now: int) -> int | None:
        if now == step and epoch in {None, launch.epoch}:
            act(launch)
        return None

    return script


def events(cluster: Cluster, name: str) -> list[dict[str, object]]:
    """Return the events of that name of all attempts at the job."""
    logs = [cluster.memory.get(listed.key) for listed in cluster.memory.list(LAYOUT.job("a").logs)]
    lines = [json.loads(line) for log in logs if log for line in log.body.splitlines()]
    return [line for line in lines if line["event"] == name]


def outcomes(record: JobRecord) -> list[str | None]:
    return [attempt.outcome for attempt in record.attempts]


# ---- what cannot be listed or read ----


def test_outputs_that_cannot_be_listed_are_a_failure() -> None:
    """A job is not completed without a part of its results; the reason names what could not be read."""

    def part(folder: Path) -> None:
        cluster = Cluster(folder)
        cluster.submit("a")

        def close(launch: Launch) -> None:
            (launch.dirs.output / "results").mkdir()
            (launch.dirs.output / "results" / "precious").touch()
            (launch.dirs.output / "results").chmod(0)

        cluster.worker(script=at(299, close, epoch=1)).run()
        record = cluster.record("a")
        assert outcomes(record) == ["workload_failed", "completed"]
        assert record.state is State.COMPLETED

    unprivileged(part)


def test_a_checkpoint_that_cannot_be_listed_is_left_out_and_said() -> None:
    """The next one is captured in its time, and no failure is counted."""

    def part(folder: Path) -> None:
        cluster = Cluster(folder)
        cluster.submit("a", silent=True)

        def script(launch: Launch, step: int) -> int | None:
            closed = launch.dirs.checkpoint / "closed"
            if step == 50:
                closed.mkdir(0)
            if step == 130:
                closed.rmdir()
            return None

        cluster.worker(script=script).run()
        assert outcomes(cluster.record("a")) == ["completed"]
        missing = events(cluster, "no_snapshot")
        assert len(missing) == 2
        assert "checkpoint/closed" in str(missing[0]["why"])
        assert [event["seq"] for event in events(cluster, "checkpoint")]

    unprivileged(part)


# ---- links ----


@pytest.mark.parametrize("silent", [False, True], ids=["announcing", "silent"])
@pytest.mark.parametrize("name", ["checkpoint", "output", "input", "console"])
def test_a_directory_that_became_a_link_fails_the_attempt(cluster: Cluster, name: str, *, silent: bool) -> None:
    """Nothing behind the link is read, written or removed, by this attempt or the next."""
    outside = cluster.root / "outside"
    outside.mkdir()
    names = ("state.txt", "000000.txt", "input.txt")
    for precious in names:
        (outside / precious).write_bytes(b"precious")

    def relink(launch: Launch) -> None:
        directory = launch.dirs.root / name
        directory.rename(launch.dirs.root / "moved")
        directory.symlink_to(outside)

    cluster.submit("a", silent=silent)
    cluster.worker(script=at(299, relink, epoch=1)).run()
    record = cluster.record("a")
    assert outcomes(record) == ["workload_failed", "completed"]
    error = str(events(cluster, "workload_failed")[0]["error"])
    assert f"{name}/ is a link or a file, and was a directory" in error
    assert all((outside / precious).read_bytes() == b"precious" for precious in names)
    assert not any(b"precious" in stored.body for stored in cluster.memory._objects.values())


def test_a_restore_replaces_links_that_the_program_left(cluster: Cluster) -> None:
    """A link where the checkpoint has a file or a directory is removed; what it points to is left alone."""
    outside = cluster.root / "outside"
    outside.mkdir()
    (outside / "state.txt").write_bytes(b"precious")
    cluster.submit("a")

    def script(launch: Launch, step: int) -> int | None:
        if launch.epoch == 1 and step == 100:
            (launch.dirs.checkpoint / "state.txt").symlink_to(outside / "state.txt")
            (launch.dirs.checkpoint / "table.bin" / "below").mkdir(parents=True)
            (launch.dirs.checkpoint / "stray").symlink_to(outside)
            return 3
        return None

    cluster.worker(script=script).run()
    assert outcomes(cluster.record("a"))[-1] == "completed"
    assert cluster.output("a") == "45150"
    assert (outside / "state.txt").read_bytes() == b"precious"


# ---- what cannot be saved ----


def test_pipes_and_sockets_are_named_and_left_out(cluster: Cluster) -> None:
    """The event log names them, once; everything else is saved."""
    cluster.submit("a", silent=True)
    cluster.worker(script=at(10, lambda launch: os.mkfifo(launch.dirs.checkpoint / "pipe"))).run()
    assert outcomes(cluster.record("a")) == ["completed"]
    (event,) = events(cluster, "skipped_entries")
    assert (event["entries"], event["count"]) == (["checkpoint/pipe"], 1)
    assert len(events(cluster, "checkpoint")) > 1


# ---- the next attempt ----


@pytest.mark.parametrize("silent", [False, True], ids=["announcing", "silent"])
def test_the_next_node_finds_links_and_empty_directories(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, silent: bool
) -> None:
    """As the program left them; a link to a file in the job's directory leads to this node's file."""
    save = FakeWorkload._save
    found: list[tuple[str, bool]] = []

    def save_more(self: FakeWorkload) -> None:
        save(self)
        folder = self._launch.dirs.checkpoint if silent else self._announced.path if self._announced else None
        if folder:
            (folder / "empty").mkdir(exist_ok=True)
            (folder / "last.txt").unlink(missing_ok=True)
            (folder / "last.txt").symlink_to(folder / "state.txt")

    def look(launch: Launch, step: int) -> int | None:
        if launch.resumed and not found:
            folder = launch.dirs.checkpoint
            found.append((str((folder / "last.txt").readlink()), (folder / "empty").is_dir()))
        return 3 if launch.epoch == 1 and step == 150 else None

    monkeypatch.setattr(FakeWorkload, "_save", save_more)
    cluster.submit("a", silent=silent)
    cluster.worker(script=look, max_jobs=1).run()
    cluster.worker(script=look).run()
    assert found == [("state.txt", True)]
    assert cluster.output("a") == "45150"


# ---- fleets of two versions ----


def schemas(cluster: Cluster) -> tuple[int, set[int]]:
    """Return the schemas of the record and of all manifests."""
    stored = cluster.memory.get(LAYOUT.job("a").record)
    assert stored is not None
    bodies = [cluster.memory.get(listed.key) for listed in cluster.memory.list(LAYOUT.job("a").manifests)]
    return json.loads(stored.body)["schema"], {json.loads(body.body)["schema"] for body in bodies if body}


@contextmanager
def older() -> Iterator[None]:
    """Let workers be of the version before, as far as records and manifests go."""
    with (
        patch("lifecycle.record.codec.SCHEMA", 1),
        patch("lifecycle.record.claiming.SCHEMA", 1),
        patch("lifecycle.checkpoint.writer.encode_manifest", as_schema_2),
        patch("lifecycle.checkpoint.manifest_codec.SCHEMA", 2),
    ):
        yield


def fail_once(launch: Launch, step: int) -> int | None:
    return 3 if launch.epoch == 1 and step == 150 else None


def test_only_the_lease_raises_the_schema_of_a_record(cluster: Cluster) -> None:
    """An old worker can take a job that a new client submitted, and goes on after a new operator's write."""
    cluster.submit("a")
    assert schemas(cluster)[0] == 1
    stored = cluster.stored("a")
    cluster.clock.sleep(2)
    cluster.record_store.write(LAYOUT.job("a").record, evolve(stored.record, labels={"x": "y"}), stored.version)
    assert schemas(cluster)[0] == 1
    cluster.worker(script=fail_once, max_jobs=1).run()
    assert schemas(cluster) == (2, {3})


def test_a_new_worker_goes_on_with_what_an_old_one_saved(cluster: Cluster) -> None:
    """The fleet is rolled forward."""
    cluster.submit("a")
    with older():
        cluster.worker(script=fail_once, max_jobs=1).run()
    assert schemas(cluster) == (1, {2})
    cluster.worker().run()
    assert schemas(cluster)[0] == 2
    record = cluster.record("a")
    assert [attempt.resumed_step for attempt in record.attempts] == [None, 120]
    assert cluster.output("a") == "45150"


def test_an_old_worker_leaves_a_job_that_a_new_one_took(cluster: Cluster) -> None:
    """The fleet is rolled back and forward again: it never looks at the manifest, and nothing is lost."""
    cluster.submit("a")
    cluster.worker(script=fail_once, max_jobs=1).run()
    before = cluster.record("a")
    with older():
        cluster.worker(idle_exit=timedelta(minutes=5)).run()
    assert cluster.record("a") == before
    cluster.worker().run()
    assert [attempt.resumed_step for attempt in cluster.record("a").attempts] == [None, 120]
    assert cluster.output("a") == "45150"


def test_a_manifest_that_only_a_newer_worker_reads_releases_the_job(cluster: Cluster) -> None:
    """It is not taken for damage: neither the checkpoint before is used, nor does the job fail."""
    cluster.submit("a")
    cluster.worker(script=fail_once, max_jobs=1).run()
    before = cluster.record("a")
    assert before.fallback
    with patch("lifecycle.checkpoint.manifest_codec.SCHEMA", 2):
        began = cluster.clock.monotonic()
        cluster.worker(max_jobs=2).run()
        assert cluster.clock.monotonic() - began >= 120
    record = cluster.record("a")
    assert record.state is State.RELEASED
    assert outcomes(record) == ["workload_failed", "unreadable", "unreadable"]
    assert (record.checkpoint, record.failures) == (before.checkpoint, before.failures)
    assert "update it" in (record.error or "")
    assert not events(cluster, "checkpoint_damaged")
    cluster.worker().run()
    assert cluster.record("a").attempts[-1].resumed_step == 120


def test_links_of_the_outputs_are_published_as_what_they_lead_to(cluster: Cluster) -> None:
    """Objects are no links. A link that leads out of the outputs is named in the event log."""

    def link(launch: Launch) -> None:
        (launch.dirs.output / "latest.txt").symlink_to("output.txt")
        (launch.dirs.output / "elsewhere").symlink_to("/etc/hostname")
        (launch.dirs.output / "empty").mkdir()

    cluster.submit("a")
    cluster.worker(script=at(300, link)).run()
    keys = LAYOUT.job("a")
    published = {listed.key.removeprefix(keys.output) for listed in cluster.memory.list(keys.output)}
    assert published == {"output.txt", "latest.txt"}
    stored = cluster.memory.get(f"{keys.output}latest.txt")
    assert stored is not None
    assert stored.body == b"45150\n"
    assert events(cluster, "skipped_entries")[0]["entries"] == ["output/elsewhere -> /etc/hostname"]
