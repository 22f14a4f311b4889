"""Serving the dashboard with uvicorn; a signal ends the open event streams, too."""

import socket
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from client.web.refresher import Refresher


class DashboardServer(uvicorn.Server):
    """A server that closes its refresher on a signal, because it would otherwise wait for the event streams."""

    def __init__(self, config: uvicorn.Config, refresher: Refresher) -> None:
        super().__init__(config)
        self._refresher = refresher

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGINT and SIGTERM: stop with exit code 0, without raising the signal again."""
        del sig, frame
        self.force_exit = self.should_exit
        self.should_exit = self._refresher.is_closed = True


def serve(app: Starlette, refresher: Refresher, listening: socket.socket, *, stop_s: int) -> None:
    """Serve until a signal arrives, then finish open requests, for at most *stop_s* seconds.

    Addresses are not logged, because the first one that a browser requests contains the token.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=stop_s,
        ws="none",
    )
    DashboardServer(config, refresher).run(sockets=[listening])
