"""`holdfast worker`: the process on a node. Wires the ports together, and turns signals into a drain."""

import fcntl
import logging
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final
from uuid import uuid4

from attrs import evolve

from adapters.local.node import this_node
from adapters.process.runner import ProcessRunner
from adapters.process.workloads_file import load
from client.config.composition import Environment
from client.config.settings import SECRETS
from client.config.telemetry_setup import watching
from client.config.trace_setup import HEADERS, tracing
from lifecycle.attempt.context import WorkerContext
from lifecycle.attempt.observers import Observers
from lifecycle.attempt.worker import Worker
from lifecycle.errors import ConfigError
from lifecycle.record.preflight import check_conditional_writes

FORCED_EXIT: Final = 1
LAST_SECONDS: Final = 4.0  # beyond STOP_GRACE, before a worker that still is not gone is ended
LOCK: Final = "lock"
SWEEP: Final = "sweep.lock"
ALIVE: Final = "alive"

log = logging.getLogger("holdfast.worker")


def run(env: Environment, *, idle_exit: timedelta | None = None, max_jobs: int | None = None) -> int:
    """Work until drained, idle for *idle_exit*, or done with *max_jobs* attempts.

    Args:
        env: Where.
        idle_exit: Instead of IDLE_EXIT; None keeps that.
        max_jobs: Ends the worker after so many attempts; None is never.

    Returns:
        The exit code.

    Raises:
        ConfigError: A setting, a credential, the queue or the bucket is wrong; no job was taken.
    """
    node = this_node(kind=env.settings["NODE_KIND"], salad_machine_id=os.environ.get("SALAD_MACHINE_ID", ""))
    observers = watching(env, node)
    limits = evolve(
        env.limits,
        idle_exit=env.limits.idle_exit if idle_exit is None else idle_exit,
        max_jobs=max_jobs or env.limits.max_jobs,
    )
    workloads = load(env.settings.workloads)
    prove(env)
    with tracing(env, node, os.environ) as traces, own_directory(env.settings.work_dir, node.name) as directory:
        worker = Worker(
            WorkerContext(
                queue=env.queue,
                store=env.store,
                record_store=env.record_store,
                runner=ProcessRunner(withheld=(*SECRETS, *HEADERS)),
                node=node,
                clock=env.clock,
                rng=random.SystemRandom(),
                limits=limits,
                workloads=workloads,
                layout=env.layout,
                bucket=env.bucket,
                work_dir=directory,
                notification_policy=env.notification_policy,
                alive=lambda: touch(env.settings.work_dir / ALIVE),
                observer=Observers(*observers, traces),
                signer=env.settings.signer(),
            )
        )
        drain_on_signals(worker, limits.stop_grace)
        log.info("%s works: %s", node.name, ", ".join(sorted(workloads)))
        return worker.run()


def touch(alive: Path) -> None:
    """Say to a health check that this process lives. Never fails: a full disk is found by whoever needs the space."""
    with suppress(OSError):
        alive.touch()


def prove(env: Environment) -> None:
    """Reach the queue, and prove that the bucket keeps conditions, before any job is taken.

    Raises:
        ConfigError: Either is wrong.
    """
    env.queue.depth()
    check_conditional_writes(env.store, prefix=env.layout.preflight, token=uuid4().hex, clock=env.clock)


def drain_on_signals(worker: Worker, grace: timedelta) -> None:
    """Let SIGTERM and SIGINT drain *worker*; one that does not end within *grace* and a little is ended."""

    def drain(number: int, _: FrameType | None) -> None:
        log.info("%s: draining", signal.Signals(number).name)
        worker.drain()
        timer = threading.Timer(grace.total_seconds() + LAST_SECONDS, force)
        timer.daemon = True
        timer.start()

    def force() -> None:
        log.error("not drained within STOP_GRACE: leaving; the lease runs out by itself")
        os._exit(FORCED_EXIT)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)


@contextmanager
def own_directory(work_dir: Path, name: str) -> Iterator[Path]:
    """A directory below *work_dir* for this process alone; those of processes that are gone are removed.

    Raises:
        ConfigError: It cannot be made.
    """
    mine = work_dir / name
    with ExitStack() as held:
        try:
            mine.mkdir(parents=True, exist_ok=True)
            with (work_dir / SWEEP).open("w") as sweeping:
                fcntl.flock(sweeping, fcntl.LOCK_EX)  # so that nobody sees a directory that is made but not locked yet
                lock = held.enter_context((mine / LOCK).open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                for other in work_dir.iterdir():
                    if other.is_dir() and other != mine and _is_abandoned(other):
                        shutil.rmtree(other, ignore_errors=True)
        except OSError as error:
            raise ConfigError(f"WORK_DIR {work_dir} cannot be written to: {error}") from error
        try:
            yield mine
        finally:
            shutil.rmtree(mine, ignore_errors=True)


def _is_abandoned(directory: Path) -> bool:
    """Whether no living process holds the lock in *directory*, and one once did."""
    try:
        with (directory / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
