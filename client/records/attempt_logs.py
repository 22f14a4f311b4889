"""Attempts' logs in the bucket: event logs, and segments of console output."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

from client.config.environment import Environment

EVENT_LOG: Final = re.compile(r"/e(\d+)\.jsonl$")
CONSOLE_SEGMENT: Final = re.compile(r"/e(\d+)/(\d+)\.txt$")
HEAD_FIELDS: Final = ("at", "epoch", "node", "event")
"""The fields that each line of an event log has."""


@frozen(order=True)
class LogObject:
    """An object of a job's log. Sorts by attempt and number, oldest first.

    Attributes:
        epoch: Its attempt.
        number: Its number among the attempt's console segments; 0 for an event log.
        key: Its key in the bucket.
        version: Its version; changes whenever a worker appends to it.
        size_bytes: Its size.
    """

    epoch: int
    number: int
    key: str
    version: str
    size_bytes: int


def event_logs(env: Environment, job: str) -> list[LogObject]:
    """List the event logs of *job*, one per attempt, oldest first.

    Raises:
        RetryableError: The bucket cannot be listed.
        ConfigError: The bucket or its credentials are wrong.
    """
    return _listed(env, job, EVENT_LOG)


def console_segments(env: Environment, job: str) -> list[LogObject]:
    """List the console segments of *job*, oldest first; raises as `event_logs` does."""
    return _listed(env, job, CONSOLE_SEGMENT)


def _listed(env: Environment, job: str, pattern: re.Pattern[str]) -> list[LogObject]:
    return sorted(
        LogObject(int(match[1]), int(match[2]) if len(match.groups()) > 1 else 0, one.key, one.version, one.size_bytes)
        for one in env.store.list(env.layout.job(job).logs)
        if (match := pattern.search(one.key))
    )


def read_events(env: Environment, job: str) -> Iterator[dict[str, Any]]:
    """Yield the events of the job's attempts that have been uploaded, oldest attempt first; skip damaged lines.

    Raises:
        RetryableError: The bucket cannot be read.
        ConfigError: The bucket or its credentials are wrong.
    """
    for log in event_logs(env, job):
        stored = env.store.get(log.key)
        for line in stored.body.decode(errors="replace").splitlines() if stored else ():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
