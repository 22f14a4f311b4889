"""A change that is not written yet is reported at once, and is false if the node dies before the write."""

from attrs import evolve
from simulation.notifier import TOLD

from lifecycle.attempt.webhook_dispatcher import WebhookDispatcher
from lifecycle.record.session import RecordSession

FOUND_AS = (TOLD,)


def install() -> None:
    recorded = RecordSession.record

    def expected(self):
        record = recorded.fget(self)
        for noted in list(self._notes.values()):
            record = noted(record)
        return record

    deliver = WebhookDispatcher._deliver

    def _deliver(self):
        session, self._session = self._session, _Hasty(self._session, expected)
        try:
            return deliver(self)
        finally:
            self._session = session

    WebhookDispatcher._deliver = _deliver


class _Hasty:
    def __init__(self, session, expected):
        self.record = evolve(session.record, outbox=expected(session).outbox)
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)
