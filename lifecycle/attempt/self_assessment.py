"""A node's view of itself: jobs that it leaves to others for a while, and its own failures in a row.

A node with a broken driver would otherwise run through the whole queue and fail every job in it.
"""

from datetime import timedelta
from typing import Final

from lifecycle.limits import Limits
from lifecycle.ports.clock import Clock

BACK_OFF: Final = timedelta(minutes=5)


class SelfAssessment:
    """A node's memory of the jobs that failed on it. Used by one thread.

    Args:
        clock: For the times.
        limits: Holds the number of failed jobs.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._elsewhere_until: dict[str, float] = {}
        self._failed: set[str] = set()
        self._backed_off = False
        self._idle_until = 0.0

    def leave_to_others(self, job: str, span: timedelta) -> None:
        """Leave *job* to other nodes for *span*."""
        now = self._clock.monotonic()
        self._elsewhere_until = {one: until for one, until in self._elsewhere_until.items() if until > now}
        if span:
            self._elsewhere_until[job] = now + span.total_seconds()

    def left_to_others(self, job: str) -> timedelta:
        """Return how long *job* is still left to others; zero if it is not."""
        until = self._elsewhere_until.get(job, 0.0)
        return timedelta(seconds=max(until - self._clock.monotonic(), 0.0))

    @property
    def back_off_s(self) -> float:
        """Seconds for which the node takes no jobs yet."""
        return max(self._idle_until - self._clock.monotonic(), 0.0)

    def learn(self, job: str, *, against_node: bool | None) -> str | None:
        """Take in the outcome of an attempt.

        Args:
            job: The job.
            against_node: See `Outcome.against_node`.

        Returns:
            Why the node should be replaced; None if it should not.
        """
        if against_node is False:
            self._failed.clear()
            self._backed_off = False
        if not against_node or not self._limits.max_failed_jobs:
            return None
        self._failed.add(job)
        if len(self._failed) < self._limits.max_failed_jobs:
            return None
        if self._backed_off:
            return f"{len(self._failed)} different jobs in a row failed here, and on no other machine"
        self._backed_off = True
        self._idle_until = self._clock.monotonic() + BACK_OFF.total_seconds()
        return None
