"""A change that waits for the next beat is told at once: if the node dies before the beat, it never was."""

from attrs import evolve
from simulation.herald import TOLD

from lifecycle.attempt.webhook_dispatcher import Postman
from lifecycle.record.session import RecordKeeper

FOUND_AS = (TOLD,)


def install() -> None:
    recorded = RecordKeeper.record

    def expected(self):
        record = recorded.fget(self)
        for noted in list(self._notes.values()):
            record = noted(record)
        return record

    deliver = Postman._deliver

    def _deliver(self):
        keeper, self._keeper = self._keeper, _Hasty(self._keeper, expected)
        try:
            return deliver(self)
        finally:
            self._keeper = keeper

    Postman._deliver = _deliver


class _Hasty:
    def __init__(self, keeper, expected):
        self.record = evolve(keeper.record, outbox=expected(keeper).outbox)
        self._keeper = keeper

    def __getattr__(self, name):
        return getattr(self._keeper, name)
