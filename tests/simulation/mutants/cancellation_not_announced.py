"""The heartbeat does not tell the attempt that its job is to be cancelled."""

from simulation.mutants import replace
from simulation.watch import DEAD_SOON

from lifecycle.attempt.heartbeat import Heartbeat

FOUND_AS = (DEAD_SOON,)


def install() -> None:
    beat = Heartbeat._beat

    def _beat(self: Heartbeat) -> float:
        self._cancel_announced = True
        return beat(self)

    replace(Heartbeat, "_beat", _beat)
