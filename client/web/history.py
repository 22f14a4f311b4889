"""What became of a job, from its record and its attempts' logs: events, the way through the diagram, plots."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from threading import Lock
from typing import Any, Final

from attrs import frozen

from client.config.composition import Environment
from client.web.diagram import Pair
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import AttemptSummary, JobRecord
from lifecycle.states import FINAL, OWNED, State

LOG: Final = re.compile(r"/e(\d+)\.jsonl$")
MOST_LOGS: Final = 50  # of a job: the newest
KEPT_LOGS: Final = 256  # of all jobs, in memory
FIXED: Final = ("at", "epoch", "node", "event")
NEEDS_RUNNING: Final = frozenset({State.RUNNING, State.COMPLETED, State.PAUSED_FOR_TIMEOUT})
STARTS: Final = frozenset({"resumed", "input_loaded"})


@frozen
class Happening:
    """A line of an attempt's log.

    Attributes:
        at: When, by the node's clock.
        epoch: In which attempt.
        node: Where.
        event: What.
        facts: What else the line says.
    """

    at: datetime
    epoch: int
    node: str
    event: str
    facts: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        """The fact *name*, if it is a number."""
        value = self.facts.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


class Logs:
    """Reads attempts' logs; one that has not changed since is not read again. Safe to use from several threads.

    Args:
        env: Whose.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._kept: OrderedDict[tuple[str, str], list[Happening]] = OrderedDict()
        self._lock = Lock()

    def of(self, job: str) -> list[Happening]:
        """What happened to *job*, by attempt; of its newest MOST_LOGS attempts. Lines that say nothing are left out.

        Raises:
            RetryableError: The bucket cannot be read.
            ConfigError: Wrong bucket or credentials.
        """
        found = [
            (int(match[1]), listed.key, listed.version)
            for listed in self._env.store.list(self._env.layout.job(job).logs)
            if (match := LOG.search(listed.key))
        ]
        return [one for _, key, version in sorted(found)[-MOST_LOGS:] for one in self._log(key, version)]

    def _log(self, key: str, version: str) -> list[Happening]:
        with self._lock:
            if (key, version) in self._kept:
                self._kept.move_to_end((key, version))
                return self._kept[key, version]
        stored = self._env.store.get(key)
        lines = stored.body.decode(errors="replace").splitlines() if stored else []
        happened = [one for line in lines if (one := _happening(line))]
        with self._lock:
            self._kept[key, version] = happened
            while len(self._kept) > KEPT_LOGS:
                self._kept.popitem(last=False)
        return happened


def logs_or_why(logs: Logs, job: str) -> tuple[list[Happening], str | None]:
    """What happened to *job*, or why that is not known: the page shows the record all the same."""
    try:
        return logs.of(job), None
    except (RetryableError, PermanentError) as error:
        return [], str(error)


def _happening(line: str) -> Happening | None:
    try:
        entry = json.loads(line)
        at, epoch, node, event = (entry.pop(name) for name in FIXED)
        return Happening(moment(at), int(epoch), str(node), str(event), entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def moment(text: str | None) -> datetime:
    """A time of the record or a log.

    Raises:
        ValueError: It is none.
    """
    at = datetime.fromisoformat(text or "")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def moment_or_none(text: str | None) -> datetime | None:
    """The same; None for what is none."""
    try:
        return moment(text)
    except ValueError:
        return None


# ---- its way through the diagram ----


def way(record: JobRecord, happened: Sequence[Happening]) -> set[Pair]:
    """The edges that the job took, as far as record and logs tell: both ends of each."""
    events: dict[int, set[str]] = {}
    for one in happened:
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
    if record.state is State.QUEUED and record.attempts:  # whichever it was, `retry` opened it again
        taken.update((pair[1], State.QUEUED) for pair in list(taken) if pair[1] in {State.FAILED, State.CANCELLED})
    return taken


def _ended_as(attempt: AttemptSummary) -> State:
    """The state that an attempt left behind, which was not the last one."""
    named = {"timeout": State.PAUSED_FOR_TIMEOUT, "cancelled": State.CANCELLED, "vanished": State.RUNNING}
    failed = dict.fromkeys(("invalid", "deaths", "wall_time"), State.FAILED)
    return {**named, **failed}.get(attempt.outcome or "vanished", State.RELEASED)


def _reached(attempt: AttemptSummary, events: set[str], now: State) -> list[State]:
    """The owned states that an attempt went through, in order."""
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
    """Add the edge that ended an attempt; where the next one starts from."""
    at = State.RUNNING if State.RUNNING in reached else reached[-1]
    if now in OWNED:
        return at
    if now is not State.QUEUED:
        taken.add((at, now))
    if now in FINAL and now is not State.COMPLETED:
        return State.QUEUED
    return now


# ---- plots ----


def progress_plot(record: JobRecord, happened: Iterable[Happening]) -> list[tuple[float, float, float | None]]:
    """Seconds since 1970, steps done, and steps a second since the point before, by time."""
    points: list[tuple[float, float, float | None]] = []
    before: tuple[int, float, float] | None = None
    for one in happened:
        step = one.number("step") if one.event in STARTS | {"checkpoint"} else None
        if one.event in STARTS and step is None:
            step = 0
        if step is None:
            continue
        at = one.at.timestamp()
        points.append((at, step, _rate(before, one.epoch, at, step)))
        before = (one.epoch, at, step)
    now, done = moment_or_none(record.timestamps.updated), record.progress.done
    if now and done is not None:
        points.append((now.timestamp(), done, record.progress.rate))
    return sorted(points)


def _rate(before: tuple[int, float, float] | None, epoch: int, at: float, step: float) -> float | None:
    if before is None or before[0] != epoch or at <= before[1] or step < before[2]:
        return None
    return (step - before[2]) / (at - before[1])


def checkpoints(happened: Iterable[Happening]) -> list[Happening]:
    """The checkpoints that were committed, by time."""
    return sorted((one for one in happened if one.event == "checkpoint"), key=lambda one: one.at)


@frozen
class Bar:
    """An attempt on the timeline: shares of its width, 0 to 1; and its checkpoints there."""

    attempt: AttemptSummary
    start: float
    length: float
    ticks: Sequence[float]


def bars(record: JobRecord, happened: Iterable[Happening], now: datetime) -> list[Bar]:
    """The attempts on one line of time, from the first one's start to the last one's end, or to now."""
    spans = []
    for number, attempt in enumerate(record.attempts):
        following = record.attempts[number + 1].started if number + 1 < len(record.attempts) else None
        start = moment_or_none(attempt.started)
        end = moment_or_none(attempt.ended) or moment_or_none(following) or now
        if start:
            spans.append((attempt, start.timestamp(), max(end, start).timestamp()))
    if not spans:
        return []
    first, last = min(start for _, start, _ in spans), max(end for _, _, end in spans)
    whole = max(last - first, 1e-3)
    ticks: dict[int, list[float]] = {}
    for one in checkpoints(happened):
        ticks.setdefault(one.epoch, []).append(min(max((one.at.timestamp() - first) / whole, 0.0), 1.0))
    return [
        Bar(attempt, (start - first) / whole, (end - start) / whole, ticks.get(attempt.epoch, []))
        for attempt, start, end in spans
    ]
