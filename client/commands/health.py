"""Whether the worker on this node is alive, for a container's health check: `python -m client.commands.health`."""

import sys
import time
from typing import Final

from client.commands.worker import ALIVE
from client.config.settings import Settings, current
from lifecycle.errors import ConfigError

MISSED_BEATS: Final = 4  # as many as lose the lease
SLACK_S: Final = 60.0  # a beat waits for a slow store; the end of an attempt has none


def check(settings: Settings, *, now: float) -> str | None:
    """What is wrong with the worker that runs with *settings*; None if nothing is.

    A worker says that it lives by touching a file, between jobs at each poll and in a job at each heartbeat.

    Args:
        settings: The worker's own.
        now: In seconds since the epoch, by the clock that the file's time is of.
    """
    file = settings.work_dir / ALIVE
    try:
        age_s = now - file.stat().st_mtime
    except OSError as error:
        return f"no sign of life yet: {error}"
    limit_s = MISSED_BEATS * settings["HEARTBEAT"].total_seconds() + SLACK_S
    return f"last sign of life {age_s:.0f} s ago, more than {limit_s:.0f} s" if age_s > limit_s else None


def main() -> int:
    """Check; returns 0 for a healthy worker, 1 for another, which stdout tells of."""
    try:
        problem = check(current(), now=time.time())
    except ConfigError as error:
        problem = str(error)
    print(problem or "alive")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main())
