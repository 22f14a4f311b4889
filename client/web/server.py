"""Serving the page: uvicorn, told to end pages' open streams when it is to end itself."""

import socket
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from client.web.refresher import Refresher


class DashboardServer(uvicorn.Server):
    """Closes *refresher* on a signal: a stream that nobody ends would be waited for."""

    def __init__(self, config: uvicorn.Config, refresher: Refresher) -> None:
        super().__init__(config)
        self._refresher = refresher

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take in SIGINT or SIGTERM: end, and with 0, so the signal is not raised again afterwards."""
        del sig, frame
        self.force_exit = self.should_exit
        self.should_exit = self._refresher.is_closed = True


def serve(app: Starlette, refresher: Refresher, listening: socket.socket, *, stop_s: int) -> None:
    """Serve until a signal comes; then answer what was asked, for *stop_s* seconds at most.

    Addresses are not logged: the first one that a browser asks for has the token in it.
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
