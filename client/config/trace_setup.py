"""OpenTelemetry traces, enabled by OpenTelemetry's own variables; its packages are imported only then."""

import importlib.util
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from client.config.environment import Environment
from client.config.variables import TraceVariables
from lifecycle import __version__
from lifecycle.attempt.observers import NO_OBSERVERS
from lifecycle.errors import ConfigError
from lifecycle.ports.node import Node
from lifecycle.ports.observer import Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

PROTOCOL: Final = "http/protobuf"
NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
FLUSH_S: Final = 2.0  # less than a worker has left after STOP_GRACE; spans not sent by then are lost


@contextmanager
def tracing(env: Environment, node: Node) -> Iterator[Observer]:
    """Make the observer that sends traces, or one that does nothing if no collector is configured.

    Leaving the context sends the remaining spans, for at most FLUSH_S.

    Raises:
        ConfigError: A collector is configured, but the packages that send to it are not installed, or refuse its
            configuration.
    """
    variables = env.settings.host.traces
    if variables.endpoint is None or variables.is_disabled:
        yield NO_OBSERVERS
        return
    _check(*variables.endpoint, variables)
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # it logs each retry as a warning
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from adapters.telemetry.spans import SpanRecorder
    from adapters.telemetry.tracing import Tracing

    processor = BatchSpanProcessor(_exporter())
    resource = {
        "service.name": "holdfast",
        "service.version": __version__,
        "service.instance.id": node.name,
        "holdfast.node": node.name,
        **({"holdfast.node.kind": node.kind} if node.kind else {}),
    }
    try:
        yield Tracing(SpanRecorder(processor, resource), env.clock, layout=env.layout, bucket=env.bucket)
    finally:
        flush = threading.Thread(target=processor.shutdown, name="tracing-flush", daemon=True)
        flush.start()
        flush.join(FLUSH_S)


def _check(name: str, endpoint: str, variables: TraceVariables) -> None:
    """Check that traces can be sent to *endpoint*, the value of the variable *name*."""
    if not all(_is_installed(module) for module in NEEDED):
        raise ConfigError(
            f"{name} is set, but the packages that send traces are not installed:"
            " pip install 'holdfast-jobs[otel]', or unset it"
        )
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{name} is not an http or https URL")
    if variables.protocol and variables.protocol[1] != PROTOCOL:
        raise ConfigError(
            f"{variables.protocol[0]}={variables.protocol[1]!r}: traces are sent by {PROTOCOL} only; unset it"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # raised if the parent package is missing
        return False


def _exporter() -> "SpanExporter":
    """Make the exporter, which reads its OTEL_EXPORTER_OTLP_… variables itself."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    try:
        return OTLPSpanExporter()
    except (ValueError, OSError) as error:
        raise ConfigError(f"an OTEL_EXPORTER_OTLP_… variable cannot be used: {type(error).__name__}") from error
