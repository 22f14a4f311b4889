"""`holdfast worker`: take and run jobs until drained by a signal, idle, or done."""

import os
import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Final

import click

from adapters.process.workloads_file import load
from client import options
from client.config.composition import build_worker
from client.config.environment import Environment
from lifecycle.attempt.worker import Worker
from lifecycle.structured_log import StructuredLogger

FORCED_EXIT: Final = 1
FORCE_AFTER_S: Final = 4.0  # beyond STOP_GRACE

log = StructuredLogger("holdfast.worker")


def run(env: Environment, *, idle_exit: timedelta | None = None, max_jobs: int | None = None) -> int:
    """Work until drained, idle for *idle_exit*, or done with *max_jobs* attempts.

    Args:
        env: The environment of the jobs.
        idle_exit: Overrides IDLE_EXIT, unless None.
        max_jobs: Exit after this many attempts; None: unlimited.

    Returns:
        The exit code.

    Raises:
        ConfigError: A setting, a credential, the queue or the bucket is wrong; no job was taken.
    """
    workloads = load(env.settings.workloads)
    with build_worker(env, workloads, idle_exit=idle_exit, max_jobs=max_jobs) as worker:
        drain_on_signals(worker, env.limits.stop_grace)
        log.info("worker.started", workloads=", ".join(sorted(workloads)))
        return worker.run()


def drain_on_signals(worker: Worker, grace: timedelta) -> None:
    """Drain *worker* on SIGTERM and SIGINT; end the process if that takes longer than *grace* and FORCE_AFTER_S."""

    def drain(number: int, _: FrameType | None) -> None:
        log.info("worker.draining", signal=signal.Signals(number).name)
        worker.drain()
        timer = threading.Timer(grace.total_seconds() + FORCE_AFTER_S, force)
        timer.daemon = True
        timer.start()

    def force() -> None:
        log.error("worker.drain_timed_out", remedy="none: the lease expires by itself")
        os._exit(FORCED_EXIT)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)


@options.command(
    "worker",
    ("holdfast worker", "Take and run jobs until it is stopped with SIGTERM or Ctrl-C."),
    ("holdfast worker --idle-exit 10m", "Exit after ten minutes without a job."),
)
@click.option("--idle-exit", metavar="TIME", type=options.DURATION, help="Exit after being idle this long.")
@click.option("--max-jobs", metavar="N", type=options.COUNT, help="Exit after N attempts.")
def command(*, idle_exit: timedelta | None, max_jobs: int | None) -> int:
    """Take and run jobs."""
    return run(options.environment(needs_bucket=False), idle_exit=idle_exit, max_jobs=max_jobs)
