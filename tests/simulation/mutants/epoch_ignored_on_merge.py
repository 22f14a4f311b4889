"""After a conflict the owner goes on with whatever stands there, also with another owner's record."""

from simulation.checker import FENCE, LIVENESS, NEVER_BACK, ONE_WINNER

from lifecycle.record.session import RecordSession

FOUND_AS = (FENCE, NEVER_BACK, ONE_WINNER, LIVENESS)


def install() -> None:
    def _adopt(self, conflict):
        self._stored = conflict.found

    RecordSession._adopt = _adopt
