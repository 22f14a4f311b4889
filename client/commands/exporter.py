"""`holdfast exporter`: queue, bucket and records as metrics for Prometheus, for all workers together.

A scrape reads them anew, but not more often than `--every`, and answers with what was read last if that takes too long
or fails: how old it is is a metric too. Reading costs a listing of the records, and a GET for each that has changed.
"""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import define, field
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from adapters.telemetry.metric_definitions import EXPORTER
from adapters.telemetry.metrics import RetryCounter, Values, age_s, families, serve
from client.config.composition import Environment
from client.config.telemetry_setup import log_as_set
from client.records.database import cache_path
from client.records.record_index import Query, RecordIndex
from lifecycle.errors import ConfigError, HoldfastError
from lifecycle.job_record import JobRecord
from lifecycle.states import OWNED, WAITING, State

LEAST: Final = timedelta(seconds=1)
PATIENCE_S: Final = 5.0  # Prometheus waits 10 s for an answer
LAST_PORT: Final = 65535
STOP_S: Final = 3.0

log = logging.getLogger("holdfast.exporter")


@define
class Source:
    """One thing that is read, and what came of it. Moments are `Clock.monotonic()`.

    Attributes:
        read: Reads it.
        values: The last that could be read.
        read_at: When that was; None: never.
        is_up: Whether it could be read last time; None: not tried yet.
        took_s: How long that took.
        failures: How often it could not be read.
    """

    read: Callable[[], Values]
    values: Values = field(factory=dict)
    read_at: float | None = None
    is_up: bool | None = None
    took_s: float = 0.0
    failures: int = 0


class Exporter(Collector):
    """Reads the sources when somebody asks, and remembers. Thread-safe.

    Args:
        env: What is looked at.
        index: Of its records.
        every: Not read again before so long.
        patience_s: A scrape that has waited so long is answered with what there is.
    """

    def __init__(
        self, env: Environment, index: RecordIndex, *, every: timedelta, patience_s: float = PATIENCE_S
    ) -> None:
        self._env = env
        self._every_s = every.total_seconds()
        self._patience_s = patience_s
        self._sources = {
            "queue": Source(lambda: queue_values(env)),
            "bucket": Source(lambda: bucket_values(env, index)),
        }
        if env.settings.is_cloud:
            self._sources["dead_letters"] = Source(dead_letter_reader(env))
        self._lock = threading.Lock()
        self._begun_at: float | None = None
        self._idle = threading.Event()
        self._idle.set()
        self.registry = CollectorRegistry()
        env.retries.add(RetryCounter(self.registry))
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def describe(self) -> Iterator[Any]:
        """What there is, without reading anything."""
        return families((measure for measure in EXPORTER if measure.name != "holdfast_retries_total"), {})

    def collect(self) -> Iterator[Any]:
        """What was read last, after reading anew if that is old."""
        self._begin()
        self._idle.wait(self._patience_s)
        with self._lock:
            values = dict(self._about())
            for source in self._sources.values():
                values |= source.values
        yield from families((measure for measure in EXPORTER if measure.name != "holdfast_retries_total"), values)

    def wait(self, timeout_s: float) -> bool:
        """Whether nothing is being read any more, within *timeout_s*."""
        return self._idle.wait(timeout_s)

    def _begin(self) -> None:
        with self._lock:
            now = self._env.clock.monotonic()
            is_due = self._begun_at is None or now - self._begun_at >= self._every_s
            if not is_due or not self._idle.is_set():
                return
            self._begun_at = now
            self._idle.clear()
        threading.Thread(target=self._refresh, name="exporter", daemon=True).start()

    def _refresh(self) -> None:
        try:
            for name, source in self._sources.items():
                self._read(name, source)
        finally:
            self._idle.set()

    def _read(self, name: str, source: Source) -> None:
        began = self._env.clock.monotonic()
        values: Values | None = None
        try:
            values = source.read()
        except HoldfastError as error:
            log.warning("the %s cannot be read: %s", name.replace("_", " "), error)
        except Exception:
            log.exception("the %s cannot be read", name.replace("_", " "))
        now = self._env.clock.monotonic()
        with self._lock:
            source.is_up, source.took_s = values is not None, now - began
            if values is None:
                source.failures += 1
            else:
                source.values, source.read_at = values, now

    def _about(self) -> Values:
        now = self._env.clock.monotonic()
        tried = {name: source for name, source in self._sources.items() if source.is_up is not None}
        return {
            "holdfast_exporter_up": [((name,), float(bool(s.is_up))) for name, s in self._sources.items()],
            "holdfast_exporter_age_seconds": [
                ((name,), now - s.read_at) for name, s in tried.items() if s.read_at is not None
            ],
            "holdfast_exporter_failures_total": [((name,), s.failures) for name, s in self._sources.items()],
            "holdfast_exporter_refresh_seconds": [((name,), s.took_s) for name, s in tried.items()],
        }


def run(env: Environment, *, host: str, port: int, every: timedelta) -> int:
    """Answer scrapes until SIGTERM or SIGINT.

    Returns:
        0.

    Raises:
        ConfigError: A credential, the queue or the bucket is wrong, or nobody can listen there.
    """
    if not 0 <= port <= LAST_PORT:
        raise ConfigError(f"--port {port} is none: there are 0 to {LAST_PORT}")
    if every < LEAST:
        raise ConfigError("--every must be 1s or more: each reading costs requests")
    log_as_set(env, socket.gethostname())
    prove(env)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with RecordIndex(env, cache_path(env)) as index:
        exporter = Exporter(env, index, every=every)
        bound = serve(exporter.registry, host=host, port=port, remedy="choose others with --host, --port")
        log.info("metrics are at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, bound)
        stopped.wait()
        exporter.wait(STOP_S)
    return 0


def prove(env: Environment) -> None:
    """Say at once what is wrong for good; what is only unreachable may come back, and is a metric.

    Raises:
        ConfigError: A credential, the queue or the bucket is wrong.
    """
    for reach in (env.queue.depth, lambda: next(iter(env.store.list(env.layout.records)), None)):
        try:
            reach()
        except ConfigError:
            raise
        except HoldfastError as error:
            log.warning("not reached yet: %s", error)


def queue_values(env: Environment) -> Values:
    """How many messages there are."""
    depth = env.queue.depth()
    kinds = {"available": depth.available, "in_flight": depth.in_flight, "delayed": depth.delayed}
    return {"holdfast_queue_messages": [((kind,), number) for kind, number in kinds.items()]}


def dead_letter_reader(env: Environment) -> Callable[[], Values]:
    """Reads how many messages are in the dead-letter queue; no value if there is none."""
    from adapters.aws.admin import redrive_of
    from client.commands.setup import admins

    queues, _ = admins(env.settings)

    def read() -> Values:
        redrive = redrive_of(queues.attributes(queues.url) or {})
        url = queues.url_of(redrive[0].rpartition(":")[2]) if redrive else None  # of an ARN, the last part
        found = queues.attributes(url) if url else None
        return {"holdfast_dead_letters": [((), int(found["ApproximateNumberOfMessages"]))]} if found else {}

    return read


def bucket_values(env: Environment, index: RecordIndex) -> Values:
    """How the jobs stand, by their records."""
    index.refresh()
    counts = {state.value: 0 for state in State if state is not State.SUPERSEDED} | {"unknown": 0} | index.count()
    longest = index.jobs(Query(states=sorted(WAITING), sort="updated", backwards=True, limit=1))
    rejected = sum(1 for _ in env.store.list(env.layout.rejected))
    return {
        "holdfast_jobs": [((state,), number) for state, number in counts.items()],
        "holdfast_jobs_stale": _one(sum(index.count(Query(stale=True)).values())),
        "holdfast_jobs_waiting_age_seconds": _one(max((f.stored.age_s for f in longest if f.stored), default=0.0)),
        "holdfast_rejected_messages": _one(rejected),
        **_owned_values(env, index),
    }


def _owned_values(env: Environment, index: RecordIndex) -> Mapping[str, list[tuple[tuple[str, ...], float]]]:
    now = env.clock.now()
    lease_s = saved_s = backlog_s = 0.0
    saved_bytes = backlog_bytes = 0
    for found in index.jobs(Query(states=sorted(OWNED))):
        if found.stored is None:
            continue
        record = found.stored.record
        lease_s = max(lease_s, found.stored.age_s)
        saved_s = max(saved_s, unsaved_s(record, now))
        saved_bytes += record.checkpoint.bytes if record.checkpoint else 0
        if record.backlog:
            backlog_bytes += record.backlog.bytes
            backlog_s = max(backlog_s, age_s(record.backlog.since, now))
    return {
        "holdfast_jobs_lease_age_seconds": _one(lease_s),
        "holdfast_jobs_checkpoint_age_seconds": _one(saved_s),
        "holdfast_jobs_checkpoint_bytes": _one(saved_bytes),
        "holdfast_jobs_backlog_bytes": _one(backlog_bytes),
        "holdfast_jobs_backlog_age_seconds": _one(backlog_s),
    }


def unsaved_s(record: JobRecord, now: Any) -> float:
    """Seconds since the later of its last commit and its attempt's start: a job that was paused is not behind."""
    moments = [record.checkpoint.at if record.checkpoint else None]
    moments += [attempt.started for attempt in record.attempts[-1:]]
    return min((age_s(moment, now) for moment in moments if moment), default=0.0)


def _one(value: float) -> list[tuple[tuple[str, ...], float]]:
    return [((), value)]
