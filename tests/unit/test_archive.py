"""The archive: at any crash or race, no job is lost, and none is run again."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from attrs import evolve
from support.checkpoint_fixture import keep
from support.cluster import Cluster
from support.fault_injection import Died, FaultInjection

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.commands import archive, download, logs, reconcile, report, show, status, verify
from client.config.environment import Environment
from client.config.settings import from_environ
from client.operations import archiving
from client.operations import job_control as control
from client.operations.submission import JobRequest, submit
from client.records.archive_index import ArchiveIndex, encode_contents
from client.records.query import EVERYTHING, Query, parse_query
from client.records.reader import read_archived, read_job
from client.records.record_index import RecordIndex
from lifecycle.errors import ConfigError, PermanentError, RetryableError
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord, Progress, Result
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.queue import Depth, Message
from lifecycle.record.archive_format import is_archived, put_tombstone, read_tombstone
from lifecycle.record.codec import encode_record
from lifecycle.record.message import announce
from lifecycle.record.notifications import NotificationPolicy, with_notice
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State

MONTH = timedelta(days=30)
SECONDS = MONTH.total_seconds()
JOBS = ("a", "b", "c")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def env(clock: ManualClock) -> Environment:
    return site_of(MemoryStore(clock), clock)


def site_of(store: Any, clock: ManualClock, layout: str = "") -> Environment:
    settings = from_environ({}, None)
    record_store = RecordStore(store, clock, random.Random(1))
    return Environment(
        settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(layout), "", settings.limits()
    )


def meddled(
    env: Environment, before: Callable[..., None], after: Callable[..., None] = lambda *_, **__: None
) -> Environment:
    """Return the same environment, with *before* and *after* called around each call of its store."""
    store = FaultInjection(env.store, before=before, after=after)
    return evolve(env, store=store, record_store=RecordStore(store, env.clock, random.Random(2)))


def over(job: str, state: State = State.FAILED, **more: Any) -> JobRecord:
    attempts = (AttemptSummary(1, "n", "2030-01-01T00:00:00+00:00", "2030-01-01T01:00:00+00:00", "failed"),)
    return JobRecord(job, "relax", state=state, epoch=1, attempts=attempts, **more)


def put(env: Environment, *records: JobRecord) -> None:
    for record in records:
        env.store.put(env.layout.job(record.job).record, encode_record(record))


def run(env: Environment, older: timedelta = MONTH, *, dry_run: bool = False) -> int:
    return archive.run(env, older=older, dry_run=dry_run, as_json=False)


def live(env: Environment) -> list[str]:
    return [env.layout.job_of_record(one.key) for one in env.store.list(env.layout.records)]


def archived(env: Environment, query: Query = EVERYTHING) -> list[str]:
    with RecordIndex(env, None) as index:
        found = ArchiveIndex(env, index.db)
        found.refresh()
        return [one.job for one in found.jobs(query) if one.stored]


def test_only_old_finished_jobs_are_archived(
    env: Environment, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job is archived once it has been over for long enough by the store's clock, and never if it is unpublished."""
    waiting = Result(CheckpointRef("m", "d", 1), 1, 1)
    put(env, over("old"), over("completed", State.COMPLETED), over("unpublished", State.COMPLETED, result=waiting))
    put(env, JobRecord("queued", "s"), over("running", State.RUNNING))
    env.store.put(".holdfast/records/odd.json", b"nonsense")
    clock.advance(SECONDS - 100)
    put(env, over("young"))
    clock.advance(101)
    assert run(env, dry_run=True) == 0
    assert "2 jobs would be archived: 1 completed, 1 failed" in capsys.readouterr().out
    assert len(live(env)) == 7
    assert run(env) == 0
    assert "2 jobs archived, in " in capsys.readouterr().out
    assert live(env) == ["odd", "queued", "running", "unpublished", "young"]
    assert archived(env) == ["completed", "old"]
    before = sorted(one.key for one in env.store.list(""))
    assert run(env) == 0
    assert sorted(one.key for one in env.store.list("")) == before


def test_an_archived_record_is_restored_unchanged(env: Environment, clock: ManualClock) -> None:
    """An archived record keeps every field, unknown ones included, and names its segment."""
    record = over("a", labels={"set": "x"}, progress=Progress(5, 10), error="no", unknown={"later": [1]})
    put(env, record)
    clock.advance(SECONDS + 1)
    run(env)
    found = read_job(env, "a").stored
    tombstone = read_tombstone(env.store, env.layout.job("a"))
    assert found is not None
    assert tombstone is not None
    assert evolve(found.record, archived=None) == record
    assert found.record.archived == tombstone.spot.segment
    assert abs((found.age_s or 0) - SECONDS) < 5


def test_a_record_with_undelivered_notices_is_kept(env: Environment) -> None:
    """A record with notices in its outbox is not archived, unless webhooks are switched off."""
    record = over("a")
    put(env, with_notice(record, env.layout.job("a"), number=1, at=env.clock.now()))
    told = evolve(env, notification_policy=NotificationPolicy(notifier=None))  # type: ignore[arg-type]
    stored = env.record_store.read(env.layout.job("a").record)
    assert stored is not None
    assert not archiving.is_ripe(told, stored, timedelta(0))
    assert archiving.is_ripe(env, stored, timedelta(0))


def test_the_minimum_age_is_one_day(env: Environment) -> None:
    """An age below one day is refused, since a worker may sleep between checking for a tombstone and claiming."""
    with pytest.raises(ConfigError, match="at least one day"):
        run(env, timedelta(hours=23))


def test_every_read_command_finds_archived_jobs(
    env: Environment, clock: ManualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands that read still find an archived job's record, outputs and logs."""
    (tmp_path / "job/output").mkdir(parents=True)
    (tmp_path / "job/output/o.txt").write_text("1")
    ref = keep(env.store, env.layout.job("a"), tmp_path / "job").ref
    put(env, over("a", State.COMPLETED, result=Result(ref, 1, 1, published=True)), over("b", labels={"set": "x"}))
    env.store.put(env.layout.job("a").log(1), b'{"at": "now", "epoch": 1, "node": "n", "event": "ended"}\n')
    clock.advance(SECONDS + 1)
    run(env)
    capsys.readouterr()
    assert show.run(env, "a", as_json=False) == 0
    told = capsys.readouterr().out
    assert "archived      in " in told
    assert "e1  n  ended" in told
    assert download.run(env, tmp_path / "got", ["a"], state=False) == 0
    assert (tmp_path / "got/a/output/o.txt").read_text() == "1"
    assert verify.run(env, ["a"]) == 0
    assert logs.run(env, "a", console=False) == 0
    assert status.run(env, ["a"], parse_query(), as_json=False, watch=False) == 0
    capsys.readouterr()
    assert status.run(env, [], parse_query(), as_json=False, watch=False) == 0
    assert capsys.readouterr().out == "0 jobs\n"
    for wanted, jobs, names in (
        (parse_query(), [], ["a", "b"]),
        (parse_query(states=["failed"]), [], ["b"]),
        (parse_query(labels=["set=x"]), [], ["b"]),
        (parse_query(since="29d"), [], []),
        (parse_query(sort="state", reverse=True, limit=1), [], ["b"]),
        (parse_query(), ["a"], ["a"]),
    ):
        assert status.run(env, jobs, wanted, as_json=True, watch=False, archived=True) == 0
        assert [json.loads(line)["job"] for line in capsys.readouterr().out.splitlines()] == names
    assert status.run(env, [], parse_query(), as_json=False, watch=False, archived=True) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 jobs, 1 completed, 1 failed"


def test_a_report_counts_each_job_once(
    env: Environment, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report counts each job once, and archived ones only on request, even while a record is being moved."""
    put(env, over("a"), over("b"))
    clock.advance(SECONDS + 1)
    run(env)
    put(env, over("b", archived="s"), over("new"))  # as if it was not removed yet
    capsys.readouterr()
    for too, jobs in ((False, 2), (True, 3)):
        given: dict[str, Any] = {"by": "all", "hourly_prices": {}, "as_json": True, "file": None, "plot": None}
        assert report.run(env, parse_query(), archived=too, **given) == 0
        assert json.loads(capsys.readouterr().out)["jobs"] == jobs


def test_jobs_are_archived_in_batches(env: Environment, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one batch of records is held in memory, and no segment contains more."""
    monkeypatch.setattr(archive, "BATCH", 64)
    stored = [0]

    def count(records: Any) -> Any:
        stored[0] = max(stored[0], len(records))
        return encode_contents(records)

    monkeypatch.setattr(archiving, "encode_contents", lambda entries: count(list(entries)))
    put(env, *(over(f"job{number:04d}", params={"p": "x" * 2000}) for number in range(1000)))
    clock.advance(SECONDS + 1)
    run(env)
    assert live(env) == []
    assert stored == [64]
    segments = list(env.store.list(".holdfast/archive/segments/"))
    assert len(segments) == 16
    assert len(archived(env)) == 1000
    frames = {read_archived(env, f"job{number:04d}").stored.record.params["p"] for number in (0, 40, 63, 64, 999)}  # type: ignore[union-attr]
    assert frames == {"x" * 2000}


def test_segment_contents_are_read_once(env: Environment, clock: ManualClock, tmp_path: Path) -> None:
    """The contents of a segment are read once, and removed from the index after a purge."""
    put(env, over("a"))
    clock.advance(SECONDS + 1)
    run(env)
    read: list[str] = []
    watching = meddled(env, lambda name, *args, **_: read.append(str(args[0])) if name == "get" else None)
    for _ in range(2):
        with RecordIndex(watching, tmp_path / "copy") as index:
            ArchiveIndex(watching, index.db).refresh()
    assert len(read) == 1
    env.store.delete([one.key for one in list(env.store.list(""))])
    with RecordIndex(env, tmp_path / "copy") as index:
        found = ArchiveIndex(env, index.db)
        found.refresh()
        assert found.count() == {}


def test_a_damaged_segment_is_named(env: Environment, clock: ManualClock, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged or missing segment is reported with its jobs, and the jobs in other segments are still listed."""
    put(env, over("a"))
    clock.advance(SECONDS + 1)
    run(env)
    key = next(iter(env.store.list(".holdfast/archive/segments/"))).key
    body = env.store.get(key).body  # type: ignore[union-attr]
    put(env, over("b"))
    clock.advance(SECONDS + 1)
    run(env)
    vast = (b"\x28\xb5\x2f\xfd\xe0" + b"\x7f" * 8).ljust(len(body), b"\0")  # a frame that claims to hold 2^62 bytes
    for spoilt in (b"x" * len(body), body[:5], vast, None):
        capsys.readouterr()
        env.store.delete([key]) if spoilt is None else env.store.put(key, spoilt)
        assert status.run(env, [], parse_query(), as_json=True, watch=False, archived=True) == 1
        said = capsys.readouterr()
        assert json.loads(said.out)["job"] == "b"
        assert "a: the archive's segment" in said.err
        assert "segment" in (read_job(env, "a").problem or "")


# ---- races and crashes, at every store call of `archive` ----


def calls_of_a_run(clock: ManualClock) -> int:
    """Return the number of store calls that archiving JOBS makes."""
    env = ready(clock)
    count = [0]

    def tick(*_: object, **__: object) -> None:
        count[0] += 1

    run(meddled(env, tick))
    assert archived(env) == list(JOBS)
    return count[0]


def ready(clock: ManualClock) -> Environment:
    env = site_of(MemoryStore(clock), clock)
    put(env, *map(over, JOBS))
    clock.advance(SECONDS + 1)
    return env


@pytest.fixture(autouse=True)
def _one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace thread pools by sequential calls, so that the nth call is the same in every run."""

    class Here:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def map(self, do: Callable[..., Any], *what: Any) -> Iterator[Any]:
            return iter([do(*each) for each in zip(*what, strict=True)])

    monkeypatch.setattr(archiving, "ThreadPoolExecutor", Here)
    monkeypatch.setattr("client.records.record_index.ThreadPoolExecutor", Here)


def at_call(nth: int, act: Callable[[], object]) -> Callable[..., None]:
    """Return a hook that calls *act* at its nth call, and does nothing otherwise."""
    count = [0]

    def meddle(*_: object, **__: object) -> None:
        count[0] += 1
        if count[0] == nth:
            act()

    return meddle


def die() -> None:
    raise Died


@pytest.mark.parametrize("when", ["before", "after"])
def test_race_archiving_dies(clock: ManualClock, when: str) -> None:
    """If `archive` dies at any call, every job stays readable, and the next run finishes the work."""
    for nth in range(1, calls_of_a_run(clock) + 1):
        env = ready(clock)
        with pytest.raises(Died):
            run(meddled(env, **{"before": lambda *_, **__: None, when: at_call(nth, die)}))
        assert [read_job(env, job).problem for job in JOBS] == [None] * 3
        assert run(env) == 0
        assert live(env) == []
        assert archived(env) == list(JOBS)
        assert all(is_archived(env.store, env.layout.job(job)) for job in JOBS)
        assert [read_job(env, job).problem for job in JOBS] == [None] * 3


def test_race_answers_of_archive_lost(clock: ManualClock) -> None:
    """If any call is made and its answer is lost, no job is lost, and the next run finishes the work."""

    def lose() -> None:
        raise RetryableError("503")

    for nth in range(1, calls_of_a_run(clock) + 1):
        env = ready(clock)
        with suppress(RetryableError):
            run(meddled(env, lambda *_, **__: None, at_call(nth, lose)))
        assert [read_job(env, job).problem for job in JOBS] == [None] * 3
        assert run(env) == 0
        assert (live(env), archived(env)) == ([], list(JOBS))


def test_race_retry_during_archive(clock: ManualClock) -> None:
    """A job that `retry` reports as reopened stays live; a job whose retry is refused ends in the archive."""
    opened = refused = 0
    for nth in range(1, calls_of_a_run(clock) + 1):
        env = ready(clock)
        said: list[str] = []

        def retry(env: Environment = env, said: list[str] = said) -> None:
            try:
                said.append(control.retry(env, "b"))
            except PermanentError as error:
                assert "is archived" in str(error)

        run(meddled(env, at_call(nth, retry)))
        run(env)
        if said:
            opened += 1
            assert live(env) == ["b"]
            assert read_job(env, "b").stored.record.state is State.QUEUED  # type: ignore[union-attr]
            assert archived(env) == ["a", "c"]
            assert not is_archived(env.store, env.layout.job("b"))
        else:
            refused += 1
            assert (live(env), archived(env)) == ([], list(JOBS))
    assert opened
    assert refused


def test_race_two_archives(clock: ManualClock) -> None:
    """If a second run starts at any step of the first, each job ends in the archive once."""
    for nth in range(1, calls_of_a_run(clock) + 1):
        env = ready(clock)
        assert run(meddled(env, at_call(nth, partial(run, env)))) == 0
        run(env)
        assert (live(env), archived(env)) == ([], list(JOBS))
        assert [read_job(env, job).problem for job in JOBS] == [None] * 3


def test_race_late_removal(clock: ManualClock, tmp_path: Path) -> None:
    """A late removal may delete a new record of the same id, and loses nothing, because no worker has begun it."""
    env = ready(clock)

    def meanwhile(name: str, *_: object, **__: object) -> None:
        if name == "delete" and live(env):
            run(env)
            put(env, JobRecord("b", "series-sum", dispatch=1))  # a submit that checked before the job was archived
            env.queue.send([announce(JobRecord("b", "series-sum"), 1)])
            worker_of(env, tmp_path).run()
            record = read_job(env, "b").stored.record  # type: ignore[union-attr]
            assert (record.state, record.epoch) == (State.QUEUED, 0)

    assert run(meddled(env, meanwhile)) == 0
    assert (live(env), archived(env)) == ([], list(JOBS))


# ---- late messages and submits ----


def worker_of(env: Environment, root: Path) -> Any:
    cluster = Cluster(root, clock=env.clock)  # type: ignore[arg-type]
    worker = cluster.worker(store=env.store, queue=env.queue, idle_exit=timedelta(seconds=60))
    worker._context = evolve(worker._context, layout=env.layout)
    return worker


BODIES = (
    {"holdfast": 1, "job": "b", "dispatch": 7},
    {"holdfast": 1, "job": "b", "dispatch": 7, "bucket": "", "prefix": "runs"},
    {"job": "b", "workload": "series-sum", "params": {}},
    {"bucket": "", "folder": "runs/b", "parameters": {}},
)


@pytest.mark.parametrize("body", BODIES)
def test_race_message_of_an_archived_job(clock: ManualClock, tmp_path: Path, body: dict[str, Any]) -> None:
    """A late or repeated message for an archived job is deleted: it neither creates the job again nor is rejected."""
    env = site_of(MemoryStore(clock), clock, "runs")
    put(env, *map(over, JOBS))
    env.store.put(f"{env.layout.job('b').input}input.txt", b"1\n10\n")
    clock.advance(SECONDS + 1)
    run(env)
    before = [one.key for one in env.store.list("")]
    env.queue.send([Message(json.dumps(body), "b", "x")])
    worker_of(env, tmp_path).run()
    assert [one.key for one in env.store.list("")] == before
    assert env.queue.depth() == Depth(0, 0, 0)


def test_race_message_at_any_step_of_archive(clock: ManualClock, tmp_path: Path) -> None:
    """At no step of `archive` does a message that carries a whole job start the job again."""
    for nth in range(1, calls_of_a_run(clock) + 1):
        env = ready(clock)
        env.queue.send([Message(json.dumps(BODIES[2]), "b", "x")])
        run(meddled(env, at_call(nth, worker_of(env, tmp_path / str(nth)).run)))
        run(env)
        assert (live(env), archived(env)) == ([], list(JOBS))
        assert read_job(env, "b").stored.record.epoch == 1  # type: ignore[union-attr]


def test_submit_reports_an_archived_job(env: Environment, clock: ManualClock) -> None:
    """Submitting an archived id reports that it is archived, and creates no record."""
    put(env, over("a"))
    clock.advance(SECONDS + 1)
    run(env)
    requests = [JobRequest(job, "relax", {}) for job in ("a", "new")]
    told = {outcome.job: outcome for outcome in submit(env, requests)}
    assert (told["a"].outcome, told["new"].outcome) == ("already submitted", "submitted")
    assert "is archived" in (told["a"].reason or "")
    assert live(env) == ["new"]


def test_a_late_submit_of_an_archived_id_is_cancelled(
    env: Environment, clock: ManualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record submitted over an archived id never runs: reconcile cancels it, and the archive keeps its record."""
    put(env, over("b"))
    clock.advance(SECONDS + 1)
    run(env)
    put(env, JobRecord("b", "series-sum", dispatch=1))
    env.queue.send([announce(JobRecord("b", "series-sum"), 1)])
    worker_of(env, tmp_path).run()
    assert reconcile.run(env, older=timedelta(0), dry_run=True, as_json=False) == 1
    assert read_job(env, "b").stored.record.state is State.QUEUED  # type: ignore[union-attr]
    assert reconcile.run(env, older=timedelta(0), dry_run=False, as_json=False) == 1
    assert "this id is archived" in capsys.readouterr().err
    assert read_job(env, "b").stored.record.state is State.CANCELLED  # type: ignore[union-attr]
    assert env.queue.depth().available == 0
    with pytest.raises(PermanentError, match="is archived"):
        control.retry(env, "b")
    clock.advance(SECONDS + 1)
    assert run(env) == 0
    assert live(env) == []
    assert read_job(env, "b").stored.record.state is State.FAILED  # type: ignore[union-attr]
    assert archived(env, Query(states=(State.FAILED,))) == ["b"]


def test_cancel_and_retry_report_an_archived_job(env: Environment, clock: ManualClock) -> None:
    """Cancel and retry report that the job is archived, and not that it is missing."""
    put(env, over("a"))
    clock.advance(SECONDS + 1)
    run(env)
    for act in (control.cancel, control.retry, control.retry_from_start):
        with pytest.raises(PermanentError, match="is archived"):
            act(env, "a")


# ---- these tests detect bugs ----


def test_a_worker_without_the_tombstone_check_is_detected(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above fail if workers do not check for tombstones."""
    monkeypatch.setattr("lifecycle.attempt.worker.is_archived", lambda *_: False)
    for number, body in enumerate(BODIES):
        with pytest.raises(AssertionError):
            test_race_message_of_an_archived_job(clock, tmp_path / str(number), body)


def test_an_unconditional_mark_is_detected(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above fail if a record is marked as archived without a condition, which would undo a retry."""

    def mark(env: Environment, one: Any, name: str, _: object) -> bool:
        env.store.put(env.layout.job(one.job).record, encode_record(evolve(one.stored.record, archived=name)))
        return True

    monkeypatch.setattr(archiving, "_mark", mark)
    with pytest.raises(AssertionError):
        test_race_retry_during_archive(clock)


def test_records_removed_before_their_tombstones_are_detected(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above fail if a record is removed before its tombstone is written, since a crash would lose the job."""

    def too_late(store: Any, keys: Any, tombstone: Any) -> None:
        store.delete([keys.record])
        put_tombstone(store, keys, tombstone)

    monkeypatch.setattr(archiving, "put_tombstone", too_late)
    with pytest.raises(AssertionError):
        test_race_archiving_dies(clock, "after")
