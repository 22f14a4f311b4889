"""The heartbeat keeps it to itself that the lease is lost, so the workload runs on until the next commit."""

from simulation.mutants import replace
from simulation.watch import DEAD_SOON

from lifecycle.attempt.heartbeat import Heartbeat
from lifecycle.errors import LeaseLostError

FOUND_AS = (DEAD_SOON,)


def install() -> None:
    announce_end = Heartbeat._announce_end

    def _announce_end(self: Heartbeat, error: Exception) -> None:
        if not isinstance(error, LeaseLostError):
            announce_end(self, error)

    replace(Heartbeat, "_announce_end", _announce_end)
