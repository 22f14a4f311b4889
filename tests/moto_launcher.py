"""Serve moto's SQS and S3 on a free local port until stdin is closed; the first line of stdout is the port.

moto checks the condition of a PUT and then writes. Under threads that is a race: in 1 of 240 rounds of 16 writers, two
of them won. A real store has one winner, so this server handles conditional PUTs one at a time.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class SerializedConditionalPuts:
    """WSGI middleware that lets one conditional PUT through at a time."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and any(name in environ for name in CONDITIONS):
            with self._lock:
                return list(self._app(environ, start_response))
        return self._app(environ, start_response)


def exit_with_parent() -> None:
    """Exit when stdin is closed, which also happens when the parent is killed."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = SerializedConditionalPuts(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.port, flush=True)  # noqa: T201 - the parent reads it
    threading.Thread(target=exit_with_parent, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
