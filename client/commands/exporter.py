"""`holdfast exporter`: serve Prometheus metrics of the queue, the bucket and the jobs, for all workers together."""

import signal
import socket
import threading
from datetime import timedelta
from typing import Final

import click

from adapters.telemetry.metrics import serve
from client import options
from client.config.environment import Environment
from client.config.telemetry_setup import set_up_log
from client.operations.exporter import Exporter
from client.records.database import cache_path
from client.records.record_index import RecordIndex
from lifecycle.errors import ConfigError, HoldfastError, UsageError
from lifecycle.structured_log import StructuredLogger

SHORTEST: Final = timedelta(seconds=1)
LAST_PORT: Final = 65535
STOP_S: Final = 3.0

log = StructuredLogger("holdfast.exporter")


def run(env: Environment, *, host: str, port: int, every: timedelta) -> int:
    """Answer scrapes until SIGTERM or SIGINT.

    Args:
        env: The environment that is measured.
        host: Address to listen on.
        port: Port to listen on; 0: any free one.
        every: The queue and the bucket are read at most this often.

    Returns:
        0.

    Raises:
        ConfigError: A credential, the queue or the bucket is wrong, or the address cannot be used.
    """
    if not 0 <= port <= LAST_PORT:
        raise UsageError(f"--port {port} is not a port from 0 to {LAST_PORT}")
    if every < SHORTEST:
        raise UsageError("--every must be 1s or more, because each reading costs requests")
    set_up_log(env, socket.gethostname())
    check_services(env)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with RecordIndex(env, cache_path(env)) as index:
        exporter = Exporter(env, index, every=every)
        bound = serve(exporter.registry, host=host, port=port, remedy="choose others with --host, --port")
        log.info("metrics.served", url=f"http://{f'[{host}]' if ':' in host else host}:{bound}/metrics")
        stopped.wait()
        exporter.wait(STOP_S)
    return 0


def check_services(env: Environment) -> None:
    """Refuse to start if anything is wrong for good; a service that is only unreachable may recover.

    Raises:
        ConfigError: A credential, the queue or the bucket is wrong.
    """
    for name, reach in (
        ("queue", env.queue.depth),
        ("bucket", lambda: next(iter(env.store.list(env.layout.records)), None)),
    ):
        try:
            reach()
        except ConfigError:
            raise
        except HoldfastError as error:
            log.warning("source.unreachable", source=name, error=str(error))


@options.command(
    "exporter",
    ("holdfast exporter", "Serve metrics on http://127.0.0.1:9471/metrics."),
    ("holdfast exporter --every 1m", "Read queue and bucket once a minute at most."),
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=options.PORT, default=9471, help="Port to listen on; 0: any free one.")
@click.option(
    "--every", metavar="TIME", type=options.DURATION, default="15s", help="Read the sources at most this often."
)
def command(*, host: str, port: int, every: timedelta) -> int:
    """Serve Prometheus metrics of queue, bucket and jobs."""
    return run(options.environment(), host=host, port=port, every=every)
