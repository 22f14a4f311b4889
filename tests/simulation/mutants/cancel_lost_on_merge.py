"""After a conflict the owner overwrites the operator's request with its own copy of the record."""

from attrs import evolve
from simulation.checker import CANCEL

from lifecycle.record.record_store import StoredRecord
from lifecycle.record.session import RecordSession

FOUND_AS = (CANCEL,)


def install() -> None:
    adopt = RecordSession._adopt

    def _adopt(self, conflict):
        ours = self._stored.record
        adopt(self, conflict)
        self._stored = StoredRecord(
            evolve(self._stored.record, control=ours.control), self._stored.version, self._stored.age_s
        )

    RecordSession._adopt = _adopt
