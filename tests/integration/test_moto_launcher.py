"""The moto test server is as strict as a real store about conditional writes."""

import contextlib
import json
import threading
from collections.abc import Callable

import pytest

from adapters.aws.store import R2Store
from lifecycle.errors import VersionConflictError


def test_one_of_many_writers_wins(wire_store: Callable[[], R2Store]) -> None:
    """Of many conditional puts on one version, exactly one succeeds."""
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


def test_the_server_serializes_conditional_puts() -> None:
    """The launcher holds a lock during conditional puts, and only then, because moto checks before it writes."""
    launcher = pytest.importorskip("moto_launcher", reason="moto[server] is not installed")
    stored: list[bool] = []

    def app(*_: object) -> list[bytes]:
        stored.append(server._lock.locked())
        return []

    server = launcher.SerializedConditionalPuts(app)
    for environ in (
        {"REQUEST_METHOD": "PUT", "HTTP_IF_MATCH": '"v"'},
        {"REQUEST_METHOD": "PUT", "HTTP_IF_NONE_MATCH": "*"},
        {"REQUEST_METHOD": "PUT"},
        {"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": '"v"'},
    ):
        server(environ, None)
    assert stored == [True, True, False, False]
