"""The dashboard over an environment in memory, and a client for it."""

import random
import re
from collections.abc import Iterator

from starlette.testclient import TestClient

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.config.environment import Environment
from client.config.settings import from_environ
from client.records.record_index import RecordIndex
from client.web.app import make_app
from client.web.refresher import Refresher
from client.web.security import SecurityRules, names_of
from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.store import StoredObject
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore
from lifecycle.states import State

HERE = "http://127.0.0.1:8765"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it here
TOKEN = "a-token-that-is-long-enough"
EVIL = '"><script>alert(1)</script>&<img src=x onerror=alert(1)>'
AT = "2026-01-01T00:00:0{}+00:00"


class FailingStore(MemoryStore):
    """A store that fails on request."""

    broken = False

    def get(self, key: str) -> StoredObject | None:
        if self.broken:
            raise RetryableError(f"get {key}: 503")
        return super().get(key)


def new_site() -> Environment:
    clock = ManualClock()
    store = FailingStore(clock)
    settings = from_environ({}, None)
    record_store = RecordStore(store, clock, random.Random(1))
    return Environment(settings, clock, MemoryQueue(clock), store, record_store, KeyLayout(""), "", settings.limits())


def client_of(env: Environment, rules: SecurityRules | None = None) -> Iterator[TestClient]:
    with RecordIndex(env, None) as index:
        app = make_app(Refresher(env, index), rules or SecurityRules(names_of("127.0.0.1")))
        with TestClient(app, base_url=HERE, follow_redirects=False) as client:
            yield client


def put(env: Environment, *records: JobRecord) -> None:
    for record in records:
        env.store.put(env.layout.job(record.job).record, encode_record(record))


def state_of(env: Environment, job: str) -> State:
    stored = env.record_store.read(env.layout.job(job).record)
    assert stored
    return stored.record.state


def token_of(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]
