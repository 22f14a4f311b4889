"""After a conflict the owner adopts any record it finds, even another owner's."""

from simulation.checker import FENCE, LIVENESS, NEVER_BACK, ONE_WINNER

from lifecycle.record.session import RecordSession

FOUND_AS = (FENCE, NEVER_BACK, ONE_WINNER, LIVENESS)


def install() -> None:
    def _adopt(self, conflict):
        self._stored = conflict.found

    RecordSession._adopt = _adopt
