"""After a conflict the owner writes its own idea of the record over the operator's."""

from attrs import evolve
from simulation.checker import CANCEL

from lifecycle.record.record_store import Held
from lifecycle.record.session import RecordKeeper

FOUND_AS = (CANCEL,)


def install() -> None:
    adopt = RecordKeeper._adopt

    def _adopt(self, conflict):
        ours = self._held.record
        adopt(self, conflict)
        self._held = Held(evolve(self._held.record, control=ours.control), self._held.version, self._held.age_s)

    RecordKeeper._adopt = _adopt
