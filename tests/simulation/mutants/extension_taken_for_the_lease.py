"""While the queue confirms extensions, the owner does not renew the lease in the record."""

from simulation.checker import TRUE_COUNTS
from simulation.mutants import replace
from simulation.watch import BEATS

from lifecycle.attempt.heartbeat import OVERLAP, Heartbeat
from lifecycle.errors import HoldfastError

FOUND_AS = (TRUE_COUNTS, BEATS)


def install() -> None:
    beat = Heartbeat._beat

    def _beat(self: Heartbeat) -> float:
        try:
            if self._context.queue.extend(self._delivery, hidden=self._context.limits.lease + OVERLAP):
                return self._interval_s
        except HoldfastError:
            pass
        return beat(self)

    replace(Heartbeat, "_beat", _beat)
