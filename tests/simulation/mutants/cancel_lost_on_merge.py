"""After a conflict the owner overwrites the operator's request with its own copy of the record."""

from attrs import evolve
from simulation.checker import CANCEL
from simulation.mutants import replace

from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.record.session import RecordSession

FOUND_AS = (CANCEL,)


def install() -> None:
    adopt = RecordSession._adopt

    def _adopt(self: RecordSession, conflict: WriteConflict) -> None:
        ours = self._stored.record
        adopt(self, conflict)
        self._stored = StoredRecord(
            evolve(self._stored.record, control=ours.control), self._stored.version, self._stored.age_s
        )

    replace(RecordSession, "_adopt", _adopt)
