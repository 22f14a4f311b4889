"""After a conflict the owner adopts any record it finds, even another owner's."""

from simulation.checker import FENCE, LIVENESS, NEVER_BACK, ONE_WINNER
from simulation.mutants import replace

from lifecycle.record.record_store import WriteConflict
from lifecycle.record.session import RecordSession

FOUND_AS = (FENCE, NEVER_BACK, ONE_WINNER, LIVENESS)


def install() -> None:
    def _adopt(self: RecordSession, conflict: WriteConflict) -> None:
        assert conflict.found is not None
        self._stored = conflict.found

    replace(RecordSession, "_adopt", _adopt)
