"""The outbox is emptied first and its notices delivered second: what dies or fails in between is never told."""

from simulation.herald import TOLD

from lifecycle.attempt.webhook_dispatcher import OUTBOX, Postman
from lifecycle.record.notifications import delivered

FOUND_AS = (TOLD,)


def install() -> None:
    deliver = Postman._deliver

    def _deliver(self):
        self._keeper.note(OUTBOX, delivered({notice.id for notice in self._keeper.record.outbox.notices}))
        return deliver(self)

    Postman._deliver = _deliver
