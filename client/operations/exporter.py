"""The collector behind `holdfast exporter`.

A scrape reads the sources again, but not more often than the exporter's interval. If reading fails or takes too long,
the scrape gets the last values; their age is a metric, too. Reading costs a listing of the records, and a GET for each
record that has changed.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from attrs import define, field
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from adapters.telemetry.metric_definitions import EXPORTER
from adapters.telemetry.metrics import RetryCounter, Values, families
from client.config.environment import Environment
from client.operations.exporter_sources import bucket_values, dead_letter_reader, queue_values
from client.records.record_index import RecordIndex
from lifecycle.errors import HoldfastError
from lifecycle.structured_log import StructuredLogger

PATIENCE_S: Final = 5.0  # Prometheus waits 10 s for an answer
RETRIES: Final = "holdfast_retries_total"  # has a collector of its own

log = StructuredLogger("holdfast.exporter")


@define
class Source:
    """A source of metrics, and its last reading. Moments are `Clock.monotonic()`.

    Attributes:
        read: Reads the source.
        values: The values of the last successful reading.
        read_at: Moment of that reading; None: none yet.
        is_up: The last reading succeeded; None: not tried yet.
        took_s: Seconds that the last reading took.
        failures: Number of failed readings.
    """

    read: Callable[[], Values]
    values: Values = field(factory=dict)
    read_at: float | None = None
    is_up: bool | None = None
    took_s: float = 0.0
    failures: int = 0


class Exporter(Collector):
    """Reads the sources when scraped, and keeps their last values. Thread-safe.

    Args:
        env: The environment that is measured.
        index: The index of its records.
        every: Sources are read at most this often.
        patience_s: A scrape is answered after this long, with the values that there are.
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
        """Return the metrics without values, and without reading anything."""
        return families((metric for metric in EXPORTER if metric.name != RETRIES), {})

    def collect(self) -> Iterator[Any]:
        """Read the sources if their values are old, and yield the metrics."""
        self._begin()
        self._idle.wait(self._patience_s)
        with self._lock:
            values = dict(self._own_values())
            for source in self._sources.values():
                values |= source.values
        yield from families((metric for metric in EXPORTER if metric.name != RETRIES), values)

    def wait(self, timeout_s: float) -> bool:
        """Wait until no reading is in progress; return False after *timeout_s*."""
        return self._idle.wait(timeout_s)

    def _begin(self) -> None:
        """Start a reading in the background, if one is due and none is in progress."""
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
            log.warning("source.read_failed", source=name, error=str(error))
        except Exception:
            log.exception("source.crashed", source=name)
        now = self._env.clock.monotonic()
        with self._lock:
            source.is_up, source.took_s = values is not None, now - began
            if values is None:
                source.failures += 1
            else:
                source.values, source.read_at = values, now

    def _own_values(self) -> Values:
        """Return the values of the metrics about the exporter itself."""
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
