"""`holdfast dashboard`: serve the live web page; by default to this machine only."""

import importlib.util
import secrets
import socket
from collections.abc import Sequence
from typing import Final

import click

from client import options
from client.config.environment import Environment
from client.records.database import cache_path
from client.records.record_index import RecordIndex
from client.views.output import complain, say
from lifecycle.errors import ConfigError, PermanentError, UsageError

NEEDED: Final = ("starlette", "jinja2", "uvicorn")
SHORTEST_TOKEN: Final = 16
TOKEN_BYTES: Final = 24
STOP_S: Final = 3
LAST_PORT: Final = 65535


def check_extra() -> None:
    """Check that the packages of the extra `dashboard` are installed.

    Raises:
        PermanentError: Some are not.
    """
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        raise PermanentError(
            f"the dashboard needs {', '.join(missing)}, which is not installed: pip install 'holdfast-jobs[dashboard]'"
        )


def run(env: Environment, *, host: str, port: int, token: str | None, names: Sequence[str]) -> int:
    """Serve the page until interrupted.

    Args:
        env: The environment of the jobs.
        host: Address to listen on.
        port: Port to listen on; 0: any free one.
        token: Token that visitors need; None: that of the settings, or, if there is none and *host* is not loopback, a
            random one.
        names: Host names that browsers may use, in addition to those of this machine.

    Returns:
        0 after SIGINT or SIGTERM.

    Raises:
        ConfigError: The token is too short, or the bucket cannot be used.
        PermanentError: The address cannot be used.
    """
    from client.web.app import make_app
    from client.web.refresher import Refresher
    from client.web.security import SecurityRules, is_loopback, names_of
    from client.web.server import serve

    shown, token = token, token or env.settings.dashboard_token or None
    if token and len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"the dashboard's token has {len(token)} characters: use {SHORTEST_TOKEN} or more")
    if not token and not is_loopback(host):
        shown = token = secrets.token_urlsafe(TOKEN_BYTES)
    next(iter(env.store.list(env.layout.records)), None)  # so that a wrong key is reported here, not on the page
    rules = SecurityRules(names_of(host, names), any_address=not is_loopback(host), token=token)
    with _listen(host, port) as listening, RecordIndex(env, cache_path(env)) as index:
        printed = shown or (token and "$DASHBOARD_TOKEN")  # never print a secret of the settings
        say(f"the dashboard is at {_address(host, listening, printed)}", flush=True)
        if not is_loopback(host):
            complain("traffic is not encrypted: use a proxy with TLS, or a tunnel")
        refresher = Refresher(env, index)
        serve(make_app(refresher, rules), refresher, listening, stop_s=STOP_S)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= LAST_PORT:
        raise UsageError(f"--port {port} is not a port from 0 to {LAST_PORT}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (")[0]
        raise PermanentError(
            f"cannot listen on {host}, port {port}: {why}; choose others with --host, --port"
        ) from error


def _address(host: str, listening: socket.socket, token: str | None) -> str:
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - only looked up
    if ":" in shown:
        shown = f"[{shown.strip('[]')}]"
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


@options.command(
    "dashboard",
    ("holdfast dashboard", "Serve the page on http://127.0.0.1:8765."),
    ("holdfast dashboard --host 0.0.0.0 --allow-host jobs.example.org", "Serve it to others, behind a proxy with TLS."),
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=options.PORT, default=8765, help="Port to listen on; 0: any free one.")
@click.option("--token", help="Token for visitors; DASHBOARD_TOKEN is safer, because `ps` shows arguments.")
@click.option(
    "--allow-host",
    "names",
    metavar="NAME",
    multiple=True,
    help="Another host name that browsers may use; may be repeated.",
)
def command(*, host: str, port: int, token: str | None, names: Sequence[str]) -> int:
    """Serve the live web page of states, jobs and nodes.

    It needs the extra `dashboard`.
    """
    check_extra()
    return run(options.environment(), host=host, port=port, token=token, names=names)
