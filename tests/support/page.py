"""The web page over a site in memory, and a browser without a screen."""

import random
import re
from collections.abc import Iterator

from starlette.testclient import TestClient

from adapters.memory.clock import ManualClock
from adapters.memory.queue import MemoryQueue
from adapters.memory.store import MemoryStore
from client.config.composition import Site
from client.config.settings import from_environ
from client.records.record_index import Index
from client.web.app import make_app
from client.web.refresher import Board
from client.web.security import Rules, names_of
from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord, encode
from lifecycle.key_layout import Place
from lifecycle.ports.store import Stored
from lifecycle.record.record_store import Ledger
from lifecycle.states import State

HERE = "http://127.0.0.1:8765"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it here
TOKEN = "a-token-that-is-long-enough"
EVIL = '"><script>alert(1)</script>&<img src=x onerror=alert(1)>'
AT = "2026-01-01T00:00:0{}+00:00"


class FailingStore(MemoryStore):
    """Fails where it is told to."""

    broken = False

    def get(self, key: str) -> Stored | None:
        if self.broken:
            raise RetryableError(f"get {key}: 503")
        return super().get(key)


def new_site() -> Site:
    clock = ManualClock()
    store = FailingStore(clock)
    settings = from_environ({}, None)
    ledger = Ledger(store, clock, random.Random(1))
    return Site(settings, clock, MemoryQueue(clock), store, ledger, Place(""), "", settings.policy())


def client_of(site: Site, rules: Rules | None = None) -> Iterator[TestClient]:
    with Index(site, None) as index:
        app = make_app(Board(site, index), rules or Rules(names_of("127.0.0.1")))
        with TestClient(app, base_url=HERE, follow_redirects=False) as client:
            yield client


def put(site: Site, *records: JobRecord) -> None:
    for record in records:
        site.store.put(site.place.job(record.job).record, encode(record))


def state_of(site: Site, job: str) -> State:
    held = site.ledger.read(site.place.job(job).record)
    assert held
    return held.record.state


def token_of(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]
