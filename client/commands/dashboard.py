"""`holdfast dashboard`: serve the web page, on this machine only unless told otherwise."""

import importlib.util
import secrets
import socket
import sys
from collections.abc import Sequence
from typing import Final

from client.config.composition import Environment
from client.records.database import cache_path
from client.records.record_index import RecordIndex
from lifecycle.errors import ConfigError, PermanentError

NEEDED: Final = ("starlette", "jinja2", "uvicorn")
SHORTEST_TOKEN: Final = 16
TOKEN_BYTES: Final = 24
STOP_S: Final = 3
LAST_PORT: Final = 65535


def check_extra() -> None:
    """See that what only this command needs is installed.

    Raises:
        PermanentError: It is not.
    """
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        raise PermanentError(
            f"the dashboard needs {', '.join(missing)}, which is not installed: pip install 'holdfast-jobs[dashboard]'"
        )


def run(env: Environment, *, host: str, port: int, token: str | None, names: Sequence[str]) -> int:
    """Serve the page until interrupted.

    Args:
        env: Whose jobs.
        host: The address to listen at.
        port: The same; 0: any that is free.
        token: What whoever looks must have; None: that of the settings; made up if there is none and *host* is not
            loopback.
        names: What browsers may call us by, besides what we know.

    Returns:
        0 after SIGINT or SIGTERM.

    Raises:
        ConfigError: The token is too short, or the bucket cannot be used.
        PermanentError: Nobody can listen there.
    """
    from client.web.app import make_app
    from client.web.refresher import Refresher
    from client.web.security import Rules, is_loopback, names_of
    from client.web.server import serve

    shown, token = token, token or env.settings["DASHBOARD_TOKEN"] or None
    if token and len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"the dashboard's token has {len(token)} characters: let it have {SHORTEST_TOKEN} or more")
    if not token and not is_loopback(host):
        shown = token = secrets.token_urlsafe(TOKEN_BYTES)
    next(iter(env.store.list(env.layout.records)), None)  # so that a wrong key is said here, and not on the page
    rules = Rules(names_of(host, names), any_address=not is_loopback(host), token=token)
    with _listen(host, port) as listening, RecordIndex(env, cache_path(env)) as index:
        told = shown or (token and "$DASHBOARD_TOKEN")  # a secret of the settings is for whoever has it already
        print(f"the dashboard is at {_address(host, listening, told)}", flush=True)
        if not is_loopback(host):
            print(
                "holdfast: nothing is encrypted: let a proxy with TLS stand before it, or use a tunnel", file=sys.stderr
            )
        refresher = Refresher(env, index)
        serve(make_app(refresher, rules), refresher, listening, stop_s=STOP_S)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= LAST_PORT:
        raise ConfigError(f"--port {port} is none: there are 0 to {LAST_PORT}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (")[0]
        raise PermanentError(
            f"cannot listen at {host}, port {port}: {why}; choose others with --host, --port"
        ) from error


def _address(host: str, listening: socket.socket, token: str | None) -> str:
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - is looked up
    if ":" in shown:
        shown = f"[{shown.strip('[]')}]"
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
