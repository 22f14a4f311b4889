"""Logs and metrics of a long-running command."""

from adapters.telemetry.log_format import AttemptContextProcessor, configure
from client.config.environment import Environment
from client.config.secret_redaction import redactor_of
from lifecycle.ports.node import Node
from lifecycle.ports.observer import Observer
from lifecycle.structured_log import StructuredLogger

log = StructuredLogger("holdfast.metrics")


def set_up_telemetry(env: Environment, node: Node) -> list[Observer]:
    """Set up the log, and serve metrics if METRICS_PORT is set.

    Returns:
        The observers of the worker that logs and metrics need.

    Raises:
        ConfigError: METRICS_HOST and METRICS_PORT cannot be used.
    """
    attempt_context = set_up_log(env, node.name)
    host, port = env.settings.metrics_host, env.settings.metrics_port
    if not port:
        return [attempt_context]
    from adapters.telemetry.metrics import Metrics, serve

    metrics = Metrics(env.clock, node.name)
    env.retries.add(metrics.retries)
    serve(metrics.registry, host=host, port=port, remedy="choose another METRICS_PORT, or 0 for none")
    log.info("metrics.served", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
    return [attempt_context, metrics]


def set_up_log(env: Environment, node: str) -> AttemptContextProcessor:
    """Set up the log as LOG_FORMAT and LOG_LEVEL say, with *node* on each line and without secrets."""
    attempt_context = AttemptContextProcessor(node)
    settings = env.settings
    configure(kind=settings.log_format, level=settings.log_level, context=attempt_context, redact=redactor_of(settings))
    return attempt_context
