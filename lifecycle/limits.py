"""Timeouts, intervals and retry limits of a worker. `client/config/settings.py` reads them from the settings."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import frozen

from lifecycle.durations import parse
from lifecycle.errors import PermanentError

DELIVERY_LIMIT: Final = timedelta(hours=11, minutes=30)
"""How long an attempt may keep one delivery before it pauses.

SQS makes a message visible again 12 hours after it was received, extended or not
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html).
"""

INTERVAL_PARAM: Final = "STATE_SAVING_INTERVAL"
SHORTEST_INTERVAL_S: Final = 0.05
LONGEST_INTERVAL_S: Final = 30 * 86400.0


@frozen
class Limits:
    """Timeouts, intervals and retry limits of a worker.

    Attributes:
        lease: How long an owner may be silent before another worker takes over.
        heartbeat: Time between two renewals of the lease; at most a quarter of it.
        max_running_time: How long an attempt runs before it pauses; at most DELIVERY_LIMIT.
        state_saving_interval: Time between two snapshots, unless the job or its workload sets one.
        stop_grace: Time that a workload has to save and exit, and that a stopping worker has to release its job.
        max_failures: Failed attempts in a row, without getting further, after which the job has failed: on two
            machines, or on one if no other has come.
        fail_patience: How long a job that only one machine has failed waits for another machine.
        misfit_patience: How long a job waits for a node that can run it.
        max_failed_jobs: Different jobs in a row that failed on a node, and on no other, after which the node backs off,
            and then asks to be replaced; 0 for never.
        max_lost_attempts: Lost attempts in a row, without getting further, after which the job has failed.
        idle_exit: The worker exits after being idle this long; zero for never.
        max_jobs: The worker exits after this many attempts; 0 for never.
        write_gap: Shortest time between two writes to one key
            (R2: one second, https://developers.cloudflare.com/r2/platform/limits/).
        upload_limit: Limit on the upload rate of checkpoints, in bytes per second; 0 for none.
        patience: How long an attempt continues without reaching the store before it releases the job.
    """

    lease: timedelta = timedelta(seconds=120)
    heartbeat: timedelta = timedelta(seconds=30)
    max_running_time: timedelta = DELIVERY_LIMIT
    state_saving_interval: timedelta = timedelta(minutes=10)
    stop_grace: timedelta = timedelta(seconds=30)
    max_failures: int = 3
    fail_patience: timedelta = timedelta(minutes=15)
    misfit_patience: timedelta = timedelta(hours=24)
    max_failed_jobs: int = 3
    max_lost_attempts: int = 10
    idle_exit: timedelta = timedelta(0)
    max_jobs: int = 0
    write_gap: timedelta = timedelta(seconds=1)
    upload_limit: int = 0
    patience: timedelta = timedelta(hours=2)


def saving_interval(params: Mapping[str, Any], default: timedelta) -> timedelta:
    """Return the time between two checkpoints of a job.

    Args:
        params: The job's parameters. STATE_SAVING_INTERVAL, if present, is a number of seconds or a text like `90s`.
        default: The interval to use if it is absent.

    Raises:
        PermanentError: The parameter is not a duration from 0.05 s to 30 days.
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
            f"invalid {INTERVAL_PARAM} {value!r:.40}: use a duration from 0.05s to 30d, like 90, 90s or 15m"
        )
    return timedelta(seconds=seconds)
