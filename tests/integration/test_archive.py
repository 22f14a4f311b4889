"""The archive over the wire: what the memory store promises there, a server does."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from support.any_port import AnyPort

from adapters.aws import queue as sqs
from adapters.aws import store as r2
from adapters.local.clock import SystemClock
from adapters.retrying import RetryingQueue, RetryingStore
from client.commands import archive, status
from client.config.environment import Environment
from client.config.settings import from_environ
from client.operations import job_control as control
from client.operations.submission import JobRequest, submit
from client.records.query import parse_query
from client.records.reader import read_job
from lifecycle.errors import PermanentError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.store import StoredObject
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State

JOBS = 300


class Aged(AnyPort):
    """A store all of whose objects are 40 days older than they are."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: str) -> StoredObject | None:
        found: StoredObject | None = self._store.get(key)
        return evolve(found, age_s=(found.age_s or 0) + 40 * 86400) if found else None

    def list(self, prefix: str) -> Any:
        return (evolve(one, age_s=(one.age_s or 0) + 40 * 86400) for one in self._store.list(prefix))


@pytest.fixture
def env(wire_store: Callable[[], r2.R2Store], wire_queue: Callable[..., sqs.SqsQueue]) -> Environment:
    clock, settings = SystemClock(), from_environ({}, None)
    store = RetryingStore(wire_store(), clock)
    queue = RetryingQueue(wire_queue(), clock)
    record_store = RecordStore(store, clock, random.Random(1))
    return Environment(settings, clock, queue, store, record_store, KeyLayout("runs"), "", settings.limits())


def test_many_jobs_over_the_wire(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """Segments, contents, marks, tombstones and removals; then found again, refused, and not begun anew."""
    for number in range(JOBS):
        record = JobRecord(f"job{number:04d}", "s", state=State.CANCELLED, labels={"tens": str(number // 10)})
        env.store.put(env.layout.job(record.job).record, encode_record(record))
    old = Aged(env.store)
    past = evolve(env, store=old, record_store=RecordStore(old, env.clock, random.Random(2)))
    assert archive.run(past, older=timedelta(days=30), dry_run=False, as_json=False) == 0
    assert f"{JOBS} jobs archived" in capsys.readouterr().out
    assert list(env.store.list(env.layout.records)) == []
    assert status.run(env, [], parse_query(labels=["tens=27"]), as_json=True, watch=False, archived=True) == 0
    told = [json.loads(line)["job"] for line in capsys.readouterr().out.splitlines()]
    assert told == [f"job027{digit}" for digit in range(10)]
    assert read_job(env, "job0250").stored.record.labels == {"tens": "25"}  # type: ignore[union-attr]
    with pytest.raises(PermanentError, match="is archived"):
        control.retry(env, "job0001")
    (told_of,) = submit(env, [JobRequest("job0001", "s", {})])
    assert (told_of.outcome, "is archived" in (told_of.reason or "")) == ("already submitted", True)
