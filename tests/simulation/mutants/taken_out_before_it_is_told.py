"""Notices are removed from the outbox before they are delivered, so a crash in between loses them."""

from typing import Any

from simulation.mutants import replace
from simulation.notifier import TOLD

from lifecycle.attempt.webhook_dispatcher import OUTBOX, WebhookDispatcher
from lifecycle.record.notifications import without_delivered

FOUND_AS = (TOLD,)


def install() -> None:
    deliver = WebhookDispatcher._deliver

    def _deliver(self: WebhookDispatcher) -> Any:
        self._session.note(OUTBOX, without_delivered({notice.id for notice in self._session.record.outbox.notices}))
        return deliver(self)

    replace(WebhookDispatcher, "_deliver", _deliver)
