"""The test server that stands in for SQS and S3: it must be fair where a real store is."""

import contextlib
import json
import threading
from collections.abc import Callable

import pytest

from adapters.aws.store import R2Store
from lifecycle.errors import VersionConflictError


def test_one_of_many_writers_wins(wire_store: Callable[[], R2Store]) -> None:
    """Of many conditional puts on one version, one lands."""
    store = wire_store()
    version = store.put("k", b"0")
    for _ in range(5):
        won: list[str] = []

        def race(name: str, version: str = version, won: list[str] = won) -> None:
            with contextlib.suppress(VersionConflictError):
                won.append(store.put("k", json.dumps([version, name]).encode(), expected=version))

        threads = [threading.Thread(target=race, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        version = won[0]


def test_the_test_server_takes_conditional_puts_one_by_one() -> None:
    """Moto checks, then writes, and two may pass the check: so its launcher holds a lock for conditional puts alone."""
    launcher = pytest.importorskip("moto_launcher", reason="moto[server] is not installed")
    stored: list[bool] = []

    def app(*_: object) -> list[bytes]:
        stored.append(server._lock.locked())
        return []

    server = launcher.OneConditionalPutAtATime(app)
    for environ in (
        {"REQUEST_METHOD": "PUT", "HTTP_IF_MATCH": '"v"'},
        {"REQUEST_METHOD": "PUT", "HTTP_IF_NONE_MATCH": "*"},
        {"REQUEST_METHOD": "PUT"},
        {"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": '"v"'},
    ):
        server(environ, None)
    assert stored == [True, True, False, False]
