"""What a long-running command tells the outside: its log, and its metrics if they are asked for."""

import logging

from adapters.telemetry.log_format import AttemptContextProcessor, configure
from client.config.composition import Environment
from client.config.secret_redaction import mask_of
from lifecycle.ports.node import Node
from lifecycle.ports.observer import Observer

log = logging.getLogger("holdfast.metrics")


def watching(env: Environment, node: Node) -> list[Observer]:
    """Log as the settings say, and show metrics if they say where.

    Returns:
        Who wants to be told what the worker does.

    Raises:
        ConfigError: Nobody can listen at METRICS_HOST and METRICS_PORT.
    """
    context = log_as_set(env, node.name)
    host, port = env.settings["METRICS_HOST"], env.settings["METRICS_PORT"]
    if not port:
        return [context]
    from adapters.telemetry.metrics import Metrics, serve

    metrics = Metrics(env.clock, node.name)
    env.retries.add(metrics.retries)
    serve(metrics.registry, host=host, port=port, remedy="choose another METRICS_PORT, or 0 for none")
    log.info("metrics are at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, port)
    return [context, metrics]


def log_as_set(env: Environment, node: str) -> AttemptContextProcessor:
    """Log as LOG_FORMAT and LOG_LEVEL say, with *node* on each line and no secret of the settings on any."""
    context = AttemptContextProcessor(node)
    configure(
        kind=env.settings["LOG_FORMAT"], level=env.settings["LOG_LEVEL"], context=context, redact=mask_of(env.settings)
    )
    return context
