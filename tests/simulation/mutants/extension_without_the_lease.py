"""An owner that cannot renew its lease keeps its message hidden from the workers that could take the job."""

from datetime import timedelta

from simulation.mutants import replace
from simulation.truth import TAKEN_SOON

from lifecycle.attempt.heartbeat import Heartbeat

FOUND_AS = (TAKEN_SOON,)


def install() -> None:
    def lease_left(self: Heartbeat) -> timedelta:
        return self._context.limits.lease

    replace(Heartbeat, "_lease_left", lease_left)
