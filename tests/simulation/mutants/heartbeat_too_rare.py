"""The heartbeat is due only once in a lease."""

from simulation.mutants import replace
from simulation.watch import BEATS

from lifecycle.attempt.heartbeat import Heartbeat

FOUND_AS = (BEATS,)


def install() -> None:
    beat = Heartbeat._beat
    replace(Heartbeat, "_beat", lambda self: beat(self) * 3)
