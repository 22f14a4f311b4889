"""A job's history, from its record and its attempts' logs: events, its path through the state diagram, plots."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from threading import Lock
from typing import Any, Final

from attrs import frozen

from client.config.environment import Environment
from client.records.attempt_logs import HEAD_FIELDS, event_logs
from client.web.diagram import Pair
from lifecycle.bounds import is_bounded
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.states import FINAL, OWNED, State

MOST_LOGS: Final = 50  # per job; the newest
KEPT_LOGS: Final = 256  # in memory, of all jobs
NEEDS_RUNNING: Final = frozenset({State.RUNNING, State.COMPLETED, State.PAUSED_FOR_TIMEOUT})
STARTS: Final = frozenset({"resumed", "input_loaded"})


@frozen
class LogEvent:
    """A line of an attempt's event log.

    Attributes:
        at: Time by the node's clock.
        epoch: The attempt.
        node: The node.
        event: The event's name.
        facts: The event's other fields.
    """

    at: datetime
    epoch: int
    node: str
    event: str
    facts: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        """Return the field *name* if it is a number; None otherwise."""
        value = self.facts.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not is_bounded(value):
            return None
        return value


class LogCache:
    """Reads attempts' event logs, and keeps those that have not changed in memory. Thread-safe.

    Args:
        env: The environment of the jobs.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._kept: OrderedDict[tuple[str, str], list[LogEvent]] = OrderedDict()
        self._lock = Lock()

    def events(self, job: str) -> list[LogEvent]:
        """Return the events of the newest MOST_LOGS attempts of *job*, by attempt, without damaged lines.

        Raises:
            RetryableError: The bucket cannot be read.
            ConfigError: The bucket or its credentials are wrong.
        """
        logs = event_logs(self._env, job)[-MOST_LOGS:]
        return [event for log in logs for event in self._read(log.key, log.version)]

    def _read(self, key: str, version: str) -> list[LogEvent]:
        with self._lock:
            if (key, version) in self._kept:
                self._kept.move_to_end((key, version))
                return self._kept[key, version]
        stored = self._env.store.get(key)
        lines = stored.body.decode(errors="replace").splitlines() if stored else []
        events = [event for line in lines if (event := _parse_event(line))]
        with self._lock:
            self._kept[key, version] = events
            while len(self._kept) > KEPT_LOGS:
                self._kept.popitem(last=False)
        return events


def events_or_problem(logs: LogCache, job: str) -> tuple[list[LogEvent], str | None]:
    """Return the events of *job*, or the reason why they cannot be read; the page shows the record in any case."""
    try:
        return logs.events(job), None
    except (RetryableError, PermanentError) as error:
        return [], str(error)


def _parse_event(line: str) -> LogEvent | None:
    """Parse a line of an event log; return None if it is damaged."""
    try:
        entry = json.loads(line)
        at, epoch, node, event = (entry.pop(name) for name in HEAD_FIELDS)
        return LogEvent(parse_time(at), int(epoch), str(node), str(event), entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def parse_time(text: str | None) -> datetime:
    """Parse a time of a record or a log.

    Raises:
        ValueError: *text* is not a time.
    """
    at = datetime.fromisoformat(text or "")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parse_time_or_none(text: str | None) -> datetime | None:
    """Parse a time of a record or a log; return None if *text* is not a time."""
    try:
        return parse_time(text)
    except ValueError:
        return None


# ---- path through the state diagram ----


def path(record: JobRecord, logged: Sequence[LogEvent]) -> set[Pair]:
    """Return the edges that the job took, as far as record and logs show: source and destination of each."""
    events: dict[int, set[str]] = {}
    for one in logged:
        events.setdefault(one.epoch, set()).add(one.event)
    taken: set[Pair] = set()
    before = State.QUEUED
    for number, attempt in enumerate(record.attempts):
        is_last = number == len(record.attempts) - 1
        now = record.state if is_last else _ended_as(attempt)
        taken.add((before, State.RECEIVED))
        reached = _reached(attempt, events.get(attempt.epoch, set()), now)
        taken.update(pairwise(reached))
        if State.CHECKPOINTING in reached and now is not State.CHECKPOINTING:
            taken.add((State.CHECKPOINTING, State.RUNNING))
        before = _leave(taken, reached, now)
    if record.state is State.QUEUED and record.attempts:  # a retry reopened it
        taken.update((pair[1], State.QUEUED) for pair in list(taken) if pair[1] in {State.FAILED, State.CANCELLED})
    return taken


def _ended_as(attempt: AttemptSummary) -> State:
    """Return the state in which an attempt left the job; for all attempts but the last."""
    named = {"timeout": State.PAUSED_FOR_TIMEOUT, "cancelled": State.CANCELLED, "vanished": State.RUNNING}
    failed = dict.fromkeys(("invalid", "deaths", "wall_time"), State.FAILED)
    return {**named, **failed}.get(attempt.outcome or "vanished", State.RELEASED)


def _reached(attempt: AttemptSummary, events: set[str], now: State) -> list[State]:
    """Return the owned states of an attempt, in order."""
    reached = [State.RECEIVED]
    saved = attempt.commits > 0 or "checkpoint" in events or now is State.CHECKPOINTING
    ran = saved or attempt.useful_s > 0 or "running" in events or now in NEEDS_RUNNING
    resumed = attempt.resumed_step is not None or "resumed" in events or now is State.RESUMED
    if resumed:
        reached.append(State.RESUMED)
    elif ran or "input_loaded" in events or now is State.INPUT_LOADED:
        reached.append(State.INPUT_LOADED)
    if ran:
        reached.append(State.RUNNING)
    if saved:
        reached.append(State.CHECKPOINTING)
    return reached


def _leave(taken: set[Pair], reached: Sequence[State], now: State) -> State:
    """Add the edge that ended an attempt, and return the state from which the next one starts."""
    at = State.RUNNING if State.RUNNING in reached else reached[-1]
    if now in OWNED:
        return at
    if now is not State.QUEUED:
        taken.add((at, now))
    if now in FINAL and now is not State.COMPLETED:
        return State.QUEUED
    return now


# ---- plots ----


def progress_plot(record: JobRecord, logged: Iterable[LogEvent]) -> list[tuple[float, float, float | None]]:
    """Return points in order of time: seconds since 1970, steps done, and steps per second since the previous point."""
    points: list[tuple[float, float, float | None]] = []
    before: tuple[int, float, float] | None = None
    for one in logged:
        step = one.number("step") if one.event in STARTS | {"checkpoint"} else None
        if one.event in STARTS and step is None:
            step = 0
        if step is None:
            continue
        at = one.at.timestamp()
        points.append((at, step, _rate(before, one.epoch, at, step)))
        before = (one.epoch, at, step)
    now, done = parse_time_or_none(record.timestamps.updated), record.progress.done
    if now and done is not None:
        points.append((now.timestamp(), done, record.progress.rate))
    return sorted(points)


def _rate(before: tuple[int, float, float] | None, epoch: int, at: float, step: float) -> float | None:
    if before is None or before[0] != epoch or at <= before[1] or step < before[2]:
        return None
    return (step - before[2]) / (at - before[1])


def checkpoints(logged: Iterable[LogEvent]) -> list[LogEvent]:
    """Return the committed checkpoints, in order of time."""
    return sorted((one for one in logged if one.event == "checkpoint"), key=lambda one: one.at)


@frozen
class AttemptBar:
    """An attempt on the timeline.

    Attributes:
        attempt: The attempt.
        start: Its start, as a share of the timeline's width.
        length: Its length, likewise.
        ticks: Its checkpoints, likewise.
    """

    attempt: AttemptSummary
    start: float
    length: float
    ticks: Sequence[float]


def attempt_bars(record: JobRecord, logged: Iterable[LogEvent], now: datetime) -> list[AttemptBar]:
    """Place the attempts on a timeline, from the start of the first one to the end of the last one, or to now."""
    spans = []
    for number, attempt in enumerate(record.attempts):
        following = record.attempts[number + 1].started if number + 1 < len(record.attempts) else None
        start = parse_time_or_none(attempt.started)
        end = parse_time_or_none(attempt.ended) or parse_time_or_none(following) or now
        if start:
            spans.append((attempt, start.timestamp(), max(end, start).timestamp()))
    if not spans:
        return []
    first, last = min(start for _, start, _ in spans), max(end for _, _, end in spans)
    whole = max(last - first, 1e-3)
    ticks: dict[int, list[float]] = {}
    for one in checkpoints(logged):
        ticks.setdefault(one.epoch, []).append(min(max((one.at.timestamp() - first) / whole, 0.0), 1.0))
    return [
        AttemptBar(attempt, (start - first) / whole, (end - start) / whole, ticks.get(attempt.epoch, []))
        for attempt, start, end in spans
    ]
