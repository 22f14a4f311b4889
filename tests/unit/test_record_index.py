"""The record index: it equals the records in the bucket, and reads only changed ones."""

import io
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from rich.console import Console

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.commands import status
from client.config.environment import Environment
from client.config.settings import from_environ
from client.records.database import cache_path
from client.records.estimates import eta_s
from client.records.query import EVERYTHING, Query, parse_query
from client.records.record_index import RecordIndex
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.job_record import JobRecord, Progress
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.store import ListedObject, StoredObject
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State


class CountingStore(MemoryStore):
    """A store that counts calls, and fails on request."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.calls = Counter[str]()
        self.broken: set[str] = set()
        self.listing_breaks_after: int | None = None

    def get(self, key: str) -> StoredObject | None:
        self.calls["get"] += 1
        if key in self.broken:
            raise RetryableError(f"get {key}: 503")
        return super().get(key)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        self.calls["list"] += 1
        for number, one in enumerate(super().list(prefix)):
            if number == self.listing_breaks_after:
                raise RetryableError("the listing broke")
            yield one


@pytest.fixture
def store(clock: ManualClock) -> CountingStore:
    return CountingStore(clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def env(store: CountingStore, clock: ManualClock) -> Environment:
    settings = from_environ({}, None)
    record_store = RecordStore(store, clock, random.Random(1))
    return Environment(settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(""), "", settings.limits())


def put(env: Environment, record: JobRecord) -> None:
    env.store.put(env.layout.job(record.job).record, encode_record(record))


def many(env: Environment, count: int) -> None:
    for number in range(count):
        put(env, JobRecord(f"job{number:05d}", "series-sum"))


def names(index: RecordIndex, query: Query = EVERYTHING) -> list[str]:
    return [found.job for found in index.jobs(query)]


def test_a_refresh_reads_only_changes(env: Environment, store: CountingStore, tmp_path: Path) -> None:
    """A refresh reads new and changed records only, also in another process, over several pages of the listing."""
    many(env, 2500)
    with RecordIndex(env, tmp_path / "index") as index:
        assert (index.refresh().read, store.calls["get"]) == (2500, 2500)
    put(env, JobRecord("job00007", "series-sum", state=State.FAILED, error="no"))
    put(env, JobRecord("job99999", "series-sum"))
    store.delete([".holdfast/records/job00000.json", ".holdfast/records/job02499.json"])
    with RecordIndex(env, tmp_path / "index") as index:
        done = index.refresh()
        assert (done.listed, done.read, done.gone) == (2499, 2, 2)
        assert done.changed == ["job00007", "job99999"]
        assert names(index)[:2] == ["job00001", "job00002"]
        assert names(index, Query(states=(State.FAILED,))) == ["job00007"]
        assert index.count() == {"queued": 2498, "failed": 1}
        assert next(iter(index.jobs(Query(states=(State.FAILED,))))).stored.record.error == "no"  # type: ignore[union-attr]


def test_a_slow_refresh_does_not_shift_ages(env: Environment, store: CountingStore, clock: ManualClock) -> None:
    """A record's age counts from the moment of its read, so that a refresh without changes writes nothing."""
    many(env, 3)
    real = store.get

    def slow(key: str) -> StoredObject | None:
        clock.advance(100)
        return real(key)

    store.get = slow  # type: ignore[method-assign]
    with RecordIndex(env, None) as index:
        index.refresh()
        assert [round(found.stored.age_s or 0) for found in index.jobs() if found.stored] == [300, 300, 300]
        before = index.db._db.total_changes
        assert index.refresh().read == 0
        assert index.db._db.total_changes == before


def test_an_empty_listing_empties_the_index(env: Environment, store: CountingStore) -> None:
    """If the bucket is empty, the index is empty."""
    many(env, 3)
    with RecordIndex(env, None) as index:
        index.refresh()
        store.delete([one.key for one in list(store.list(""))])
        assert index.refresh().gone == 3
        assert names(index) == []


def test_a_broken_listing_removes_nothing(env: Environment, store: CountingStore) -> None:
    """Jobs that a failed listing did not reach stay in the index."""
    many(env, 1500)
    with RecordIndex(env, None) as index:
        index.refresh()
        store.listing_breaks_after = 1200
        with pytest.raises(RetryableError):
            index.refresh()
        assert len(names(index)) == 1500


def test_a_failed_read_is_repeated(env: Environment, store: CountingStore) -> None:
    """A record whose read failed is read again at the next refresh; one that is invalid is not."""
    many(env, 1)
    store.put(".holdfast/records/odd.json", b"nonsense")
    store.broken = {".holdfast/records/job00000.json"}
    with RecordIndex(env, None) as index:
        index.refresh()
        assert ["503" in why or "not JSON" in why for why in index.problems()] == [True, True]
        assert index.count() == {"unknown": 2}
        store.broken = set()
        assert index.refresh().changed == ["job00000"]
        assert index.count() == {"queued": 1, "unknown": 1}


def test_staleness_needs_no_new_record(env: Environment, clock: ManualClock) -> None:
    """A job becomes stale by the store's clock, without a change of its record."""
    put(env, JobRecord("a", "s", state=State.RUNNING, epoch=1, owner="n", lease_s=120))
    with RecordIndex(env, None) as index:
        index.refresh()
        assert names(index, Query(stale=True)) == []
        clock.advance(125)
        assert index.refresh().read == 0
        assert names(index, Query(stale=True)) == ["a"]
        assert names(index, Query(since_s=60)) == []
        assert names(index, Query(since_s=300)) == ["a"]


def test_filters_and_orders(env: Environment) -> None:
    """Queries filter by label, and sort by state, progress and remaining time."""
    for job, done, label in (("a", 10, "x"), ("b", 90, "y"), ("c", 50, "x")):
        progress = Progress(done, 100, 2.0)
        put(env, JobRecord(job, "s", state=State.RUNNING, lease_s=60, progress=progress, labels={"set": label}))
    put(env, JobRecord("d", "s", labels={"set": "x", "it's": 'a "b"'}))
    with RecordIndex(env, None) as index:
        index.refresh()
        assert names(index, Query(labels={"set": "x"})) == ["a", "c", "d"]
        assert names(index, Query(labels={"it's": 'a "b"', "set": "x"})) == ["d"]
        assert names(index, Query(sort="progress")) == ["b", "c", "a", "d"]
        assert names(index, Query(sort="progress", reverse=True)) == ["a", "c", "b", "d"]
        assert names(index, Query(sort="eta")) == ["b", "c", "a", "d"]
        assert names(index, Query(sort="state", limit=1)) == ["d"]
        assert [eta_s(found.stored.record) for found in index.jobs() if found.stored] == [45, 5, 25, None]


@pytest.mark.parametrize("spoilt", [b"not a database, but long enough to be looked at " * 40, b""])
def test_an_invalid_index_file_is_replaced(env: Environment, tmp_path: Path, spoilt: bytes) -> None:
    """A file that is not an index is replaced."""
    (tmp_path / "index").write_bytes(spoilt)
    many(env, 2)
    with RecordIndex(env, tmp_path / "index") as index:
        index.refresh()
        assert len(names(index)) == 2
    with closing(sqlite3.connect(tmp_path / "index")) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (2,)


def test_without_a_writable_file_the_index_is_in_memory(env: Environment, tmp_path: Path) -> None:
    """If the file cannot be created, the index is kept in memory."""
    (tmp_path / "file").write_text("")
    many(env, 1)
    with RecordIndex(env, tmp_path / "file" / "index") as index:
        index.refresh()
        assert names(index) == ["job00000"]


def test_each_bucket_and_prefix_has_its_own_file(env: Environment) -> None:
    """Each bucket and prefix has its own file; local records have none."""
    assert cache_path(env) is None
    cloud = {"QUEUE_URL": "https://sqs.us-east-2.amazonaws.com/1/q", "CLOUDFLARE_URL": "https://r2.example"}
    cloud |= dict.fromkeys(("AWS_ID", "AWS_KEY", "CLOUDFLARE_ID", "CLOUDFLARE_KEY"), "x")
    cloud["XDG_CACHE_HOME"] = "/somewhere"
    paths = set()
    for more in ({"BUCKET": "a"}, {"BUCKET": "b"}, {"BUCKET": "a", "PREFIX": "p"}):
        paths.add(cache_path(evolve(env, settings=from_environ({**cloud, **more}, None))))
    assert len(paths) == 3
    assert all(path is not None and path.parent == Path("/somewhere/holdfast") for path in paths)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"states": ["runing"]}, "--state runing: unknown state; did you mean running\\? The states are queued"),
        ({"labels": ["x"]}, "--label 'x' is not NAME=VALUE"),
        ({"since": "yesterday"}, "--since "),
        ({"sort": "size"}, "--sort size: must be one of job"),
    ],
)
def test_an_invalid_filter_is_refused(wrong: dict[str, object], said: str) -> None:
    """An invalid filter is an error that names the option."""
    with pytest.raises(ConfigError, match=said):
        parse_query(**wrong)  # type: ignore[arg-type]


def test_status_of_filtered_jobs(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` lists and summarizes the filtered jobs only, and reports unknown ones."""
    put(env, JobRecord("a", "s", state=State.RUNNING, lease_s=0, progress=Progress(1, 7201, 1.0), owner="n"))
    put(env, JobRecord("b", "s"))
    assert status.run(env, [], parse_query(states=["running,queued"]), as_json=True, watch=False) == 0
    assert [json.loads(line)["eta_s"] for line in capsys.readouterr().out.splitlines()] == [7200, None]
    assert status.run(env, ["a", "b"], parse_query(states=["running"]), as_json=False, watch=False) == 0
    told = capsys.readouterr().out
    assert "2h 0m" in told
    assert told.splitlines()[-1] == "1 jobs, 1 running"
    assert status.run(env, ["nowhere"], parse_query(), as_json=False, watch=False) == 1
    assert "there is no job 'nowhere'" in capsys.readouterr().err


def test_a_watched_table_has_a_line_for_each_job(env: Environment) -> None:
    """On a narrow terminal each job has one line: long texts are cut, states never, and empty columns are omitted."""
    put(env, JobRecord("a" * 24, "s", state=State.FAILED, epoch=2, error="no [room] " * 20, progress=Progress(1, 7)))
    put(env, JobRecord("b", "s", state=State.COMPLETED, epoch=1))
    with RecordIndex(env, None) as index:
        index.refresh()
        console = Console(width=70, record=True, file=io.StringIO())
        console.print(status.screen(index, Query(limit=1), "; not refreshed: 503", 70))
        console.print(status.screen(index, EVERYTHING, "", 70))
    head, first, summed, *rest = (line.rstrip() for line in console.export_text().splitlines())
    assert head.split() == ["job", "state", "progress", "error"]
    assert "failed" in first
    assert "1/7 14%" in first
    assert "no [room]" in first
    assert summed == "2 jobs, 1 completed, 1 failed; not refreshed: 503"
    assert len(rest) == 4
    assert "completed" in rest[2]


def test_watching_survives_a_failed_refresh(env: Environment, store: CountingStore) -> None:
    """If a refresh fails, the last values are shown with a note that they are old."""
    many(env, 3)
    with RecordIndex(env, None) as index:
        assert status._refresh(index) == ""
        store.listing_breaks_after = 1
        assert status._refresh(index) == "; not refreshed: the listing broke"
        assert len(names(index)) == 3
