"""The numbers that a worker lives by. Where each comes from, and how it is set: client/settings.py."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import frozen

from lifecycle.durations import parse
from lifecycle.errors import PermanentError

DELIVERY_LIMIT: Final = timedelta(hours=11, minutes=30)
"""An attempt pauses when one delivery has been held this long; SQS takes it away at 12 hours (facts: SQS API)."""

INTERVAL_PARAM: Final = "STATE_SAVING_INTERVAL"
SHORTEST_INTERVAL_S: Final = 0.05
LONGEST_INTERVAL_S: Final = 30 * 86400.0


@frozen
class Limits:
    """How long, how often, how many.

    Attributes:
        lease: How long an owner is taken for alive after its last write to the record.
        heartbeat: How often it writes; at most a quarter of the lease.
        max_running_time: How long an attempt runs before it pauses.
        state_saving_interval: How often a snapshot is taken, where the job does not say.
        stop_grace: How long a workload has to save and leave, and a stopping worker to hand its job back.
        max_failures: Failed attempts in a row without a new checkpoint, before the job has failed.
        max_lost_attempts: Vanished attempts in a row without a new checkpoint, before the job has failed.
        idle_exit: The worker ends after this long without a job; zero is never.
        max_jobs: The worker ends after this many attempts; zero is never.
        write_gap: The store's least time between two writes to one key (R2: one second).
        upload_limit: What checkpoints may send, in bytes a second; zero is no limit.
        patience: How long an attempt goes on without being able to reach the store, before it gives the job back.
    """

    lease: timedelta = timedelta(seconds=120)
    heartbeat: timedelta = timedelta(seconds=30)
    max_running_time: timedelta = timedelta(hours=2)
    state_saving_interval: timedelta = timedelta(minutes=10)
    stop_grace: timedelta = timedelta(seconds=30)
    max_failures: int = 3
    max_lost_attempts: int = 10
    idle_exit: timedelta = timedelta(0)
    max_jobs: int = 0
    write_gap: timedelta = timedelta(seconds=1)
    upload_limit: int = 0
    patience: timedelta = timedelta(hours=2)


def saving_interval(params: Mapping[str, Any], default: timedelta) -> timedelta:
    """How often a job of *params* is to save: its STATE_SAVING_INTERVAL (seconds, or a text like "90s"), or *default*.

    Raises:
        PermanentError: The parameter is no sensible time.
    """
    value = params.get(INTERVAL_PARAM)
    if value is None:
        return default
    try:
        seconds = parse(value).total_seconds() if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not SHORTEST_INTERVAL_S <= seconds <= LONGEST_INTERVAL_S:
        raise PermanentError(
            f"{INTERVAL_PARAM} {value!r:.40} is not a time from 0.05 s to 30 days, like 90, 90s or 15m"
        )
    return timedelta(seconds=seconds)
