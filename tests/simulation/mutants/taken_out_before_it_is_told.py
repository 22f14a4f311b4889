"""Notices are removed from the outbox before they are delivered, so a crash in between loses them."""

from simulation.notifier import TOLD

from lifecycle.attempt.webhook_dispatcher import OUTBOX, WebhookDispatcher
from lifecycle.record.notifications import without_delivered

FOUND_AS = (TOLD,)


def install() -> None:
    deliver = WebhookDispatcher._deliver

    def _deliver(self):
        self._session.note(OUTBOX, without_delivered({notice.id for notice in self._session.record.outbox.notices}))
        return deliver(self)

    WebhookDispatcher._deliver = _deliver
