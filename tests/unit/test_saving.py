"""Silence is a fault: if a job runs and its work is not saved, its record says so, and why, and what to do."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve
from support.cluster import Cluster
from support.fault_injection import FaultInjection, unless_dead

from adapters.memory.runner import FakeWorkload
from client.views.job_json import job_object, saving_text
from client.views.job_story import story
from client.views.status_table import StatusTable
from lifecycle.attempt import checkpoint_scheduler
from lifecycle.attempt.saving_report import LONGEST_CHARS
from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord, Saving, iso
from lifecycle.record.codec import decode_record, encode_record
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def reports(cluster: Cluster, *, seconds: int = 280, **workload: object) -> list[Saving | None]:
    """Run a worker, and return what the record says about saving, every ten seconds."""
    worker = cluster.worker(workload=workload)
    thread = cluster.clock.start_thread(unless_dead(worker.run), name="worker")
    found = []
    for _ in range(seconds // 10):
        cluster.clock.sleep(10)
        found.append(cluster.record("a").saving)
    worker.drain()
    assert thread.join(1000)
    return found


def test_a_job_whose_work_is_saved_has_nothing_to_report(cluster: Cluster) -> None:
    """While checkpoints are made, the record has no report."""
    cluster.submit("a")
    assert set(reports(cluster)) == {None}


def test_a_chatty_program_that_must_not_be_frozen_is_reported(cluster: Cluster) -> None:
    """The report names the file and the remedy, and since when nothing was saved; the end of the attempt removes it."""
    cluster.submit("a", silent=True, chatty=True)
    found = [report for report in reports(cluster, freeze=False) if report]
    assert len(found) > 10
    assert len(set(found)) == 1
    assert found[0].problem.startswith("checkpoint/chat.log changes every second: declare it `growing`")
    started = cluster.record("a").attempts[-1].started
    assert found[0].since is not None
    assert abs(datetime.fromisoformat(found[0].since) - datetime.fromisoformat(started)) < timedelta(seconds=5)
    assert cluster.record("a").saving is None


def test_the_report_ends_with_the_next_checkpoint(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a checkpoint is committed, all is well again."""
    real = FakeWorkload.freeze

    def freeze(self: FakeWorkload) -> str | None:
        return "process 7 hangs" if cluster.clock.monotonic() < 200 else real(self)

    monkeypatch.setattr(FakeWorkload, "freeze", freeze)
    cluster.submit("a", silent=True, chatty=True)
    found = reports(cluster)
    assert any(report and "process 7 hangs" in report.problem for report in found)
    assert found[-1] is None
    assert cluster.record("a").checkpoint is not None


def test_a_program_that_saves_nothing_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without any file of a state is reported too."""
    monkeypatch.setattr(FakeWorkload, "_save", lambda _: None)
    cluster.submit("a", silent=True)
    problems = {report.problem for report in reports(cluster) if report}
    assert problems == {"the program has saved no file of its state yet"}


def test_a_program_that_announces_no_more_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a job that has announced before ignores a request to save, that is reported at the next one."""
    cluster.submit("a")
    cluster.worker(script=lambda _, step: 3 if step == 100 else None, max_jobs=1).run()
    monkeypatch.setattr(FakeWorkload, "_save", lambda _: None)
    problems = {report.problem for report in reports(cluster, seconds=180) if report}
    assert problems == {checkpoint_scheduler.NOT_ANNOUNCED}


def test_uploads_that_fail_are_reported(cluster: Cluster) -> None:
    """While the store refuses packs, the report says since when nothing was saved."""

    def refuse(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/packs/" in str(args[0]) and cluster.clock.monotonic() < 200:
            raise RetryableError("503, on purpose")

    cluster.store = FaultInjection(cluster.memory, before=refuse)
    cluster.submit("a")
    found = reports(cluster)
    assert any(report and report.problem == "uploads fail: 503, on purpose" and report.since for report in found)
    assert found[-1] is None


def test_a_backlog_is_reported(cluster: Cluster) -> None:
    """A snapshot that waits for two saving intervals is reported."""

    def delay(name: str, *args: object, **_: object) -> None:
        if name == "put" and "/checkpoints/" in str(args[0]):
            cluster.clock.sleep(150)

    cluster.store = FaultInjection(cluster.memory, before=delay)
    cluster.submit("a")
    assert any(report and report.problem == checkpoint_scheduler.LATE for report in reports(cluster))


def test_a_long_freeze_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freeze of more than a second is reported, although a checkpoint was made."""
    real = FakeWorkload.thaw

    def thaw(self: FakeWorkload) -> bool:
        cluster.clock.sleep(1.5 if self._frozen_at is not None else 0)
        return real(self)

    monkeypatch.setattr(FakeWorkload, "thaw", thaw)
    cluster.submit("a", silent=True, chatty=True)
    found = [report for report in reports(cluster) if report]
    assert "stopped for 1.5 s" in found[-1].problem
    assert found[-1].since is None


def test_what_cannot_be_saved_is_reported(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that cannot be saved are reported beside a checkpoint that has the rest."""
    real = FakeWorkload._load

    def load(self: FakeWorkload) -> None:
        real(self)
        pipe = self._launch.dirs.checkpoint / "pipe"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)

    monkeypatch.setattr(FakeWorkload, "_load", load)
    cluster.submit("a", silent=True)
    found = [report for report in reports(cluster) if report]
    assert found[0] == Saving("1 entries cannot be saved, such as checkpoint/pipe")
    assert cluster.record("a").checkpoint is not None


# ---- how it is shown ----


def stored(saving: Saving | None, state: State = State.RUNNING) -> StoredRecord:
    record = JobRecord("a", "w", state=state, owner="n", lease_s=120.0, saving=saving)
    return StoredRecord(record, "1", 0.0)


def test_the_text_says_for_how_long(cluster: Cluster) -> None:
    """A job is `ok`, or has no checkpoint for a time that grows; a job without an owner has no such report."""
    since = iso(datetime.now(UTC) - timedelta(minutes=31))
    assert saving_text(stored(None).record) == "ok"
    assert saving_text(stored(Saving("x changes", since)).record) == "no checkpoint for 31m 0s: x changes"
    assert saving_text(stored(Saving("1 entry")).record) == "1 entry"
    assert saving_text(stored(Saving("x", since), State.COMPLETED).record) is None
    assert job_object(stored(Saving("1 entry")))["saving"] == "1 entry"


def cells_of_status(one: StoredRecord) -> list[str]:
    return [text for text, _ in StatusTable.for_jobs([one], None).row(one)]


@pytest.mark.parametrize("cells", [cells_of_status, lambda one: list(story(one, []))], ids=["status", "show"])
def test_the_commands_show_it(cells: Callable[[StoredRecord], list[str]]) -> None:
    """`status` and `show` print the report."""
    assert any("x changes" in cell for cell in cells(stored(Saving("x changes"))))
    assert any("ok" in cell for cell in cells(stored(None)))


def test_the_report_survives_its_encoding() -> None:
    """A record with a report is written and read like any other, and one without it is readable too."""
    record = stored(Saving("p" * LONGEST_CHARS, "2030-01-01T00:00:00.000+00:00")).record
    assert decode_record(encode_record(record)) == record
    old = encode_record(evolve(record, saving=None)).replace(b'"saving":null,', b"")
    assert b"saving" not in old
    assert decode_record(old) == evolve(record, saving=None)
