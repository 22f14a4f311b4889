"""Enable OpenTelemetry traces by OpenTelemetry's own variables; nothing of it is imported otherwise."""

import importlib.util
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from client.config.composition import Environment
from lifecycle import __version__
from lifecycle.attempt.observers import NO_OBSERVERS
from lifecycle.errors import ConfigError
from lifecycle.ports.node import Node
from lifecycle.ports.observer import Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")  # where a collector's token is
NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
FLUSH_S: Final = 2.0  # what is not with the collector by then is lost; less than a worker has left after STOP_GRACE


@contextmanager
def tracing(env: Environment, node: Node, environ: Mapping[str, str]) -> Iterator[Observer]:
    """Whoever makes traces of what this process does: nobody, unless *environ* names a collector.

    What was not sent yet is sent on leaving, for FLUSH_S at most.

    Raises:
        ConfigError: A collector is named, and what sends to it is not installed, or cannot use what is set.
    """
    endpoint = next((name for name in ENDPOINTS if environ.get(name)), None)
    if endpoint is None or _is_off(environ):
        yield NO_OBSERVERS
        return
    _check(endpoint, environ)
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # its every retry is a warning
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


def _is_off(environ: Mapping[str, str]) -> bool:
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return disabled or environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"


def _check(endpoint: str, environ: Mapping[str, str]) -> None:
    if not all(_is_installed(name) for name in NEEDED):
        raise ConfigError(
            f"{endpoint} is set, but what sends traces is not installed: pip install 'holdfast-jobs[otel]', or unset it"
        )
    parts = urlsplit(environ[endpoint])
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{endpoint} is no http or https address")
    protocol = next((name for name in PROTOCOLS if environ.get(name)), None)
    if protocol and environ[protocol] != PROTOCOL:
        raise ConfigError(f"{protocol}={environ[protocol]!r}: traces are sent by {PROTOCOL} only; unset it")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def _exporter() -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    try:
        return OTLPSpanExporter()
    except (ValueError, OSError) as error:
        raise ConfigError(f"a setting of OTEL_EXPORTER_OTLP_… cannot be used: {type(error).__name__}") from error
