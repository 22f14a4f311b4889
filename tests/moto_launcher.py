"""Serve moto's SQS and S3 on a free port of this machine, until stdin is closed; the port is the first line of stdout.

moto checks the condition of a PUT and then writes, and under threads that races: two winners in 1 of 240 rounds of 16
writers. A real store has one. So here conditional PUTs go one after the other.
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


class OneConditionalPutAtATime:
    """A WSGI application around another."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and any(name in environ for name in CONDITIONS):
            with self._lock:
                return list(self._app(environ, start_response))
        return self._app(environ, start_response)


def leave_with_parent() -> None:
    """End this process when the other end of stdin is closed, also by a parent that was killed."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = OneConditionalPutAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.port, flush=True)  # noqa: T201 - how the parent learns it
    threading.Thread(target=leave_with_parent, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
