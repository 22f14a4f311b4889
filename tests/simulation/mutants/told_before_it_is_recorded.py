"""A change that is not written yet is reported at once, and is false if the node dies before the write."""

from collections.abc import Callable
from typing import Any, cast

from attrs import evolve
from simulation.mutants import replace
from simulation.notifier import TOLD

from lifecycle.attempt.webhook_dispatcher import WebhookDispatcher
from lifecycle.job_record import JobRecord
from lifecycle.record.session import RecordSession

FOUND_AS = (TOLD,)


def install() -> None:
    recorded: Any = RecordSession.record  # a property

    def expected(self: RecordSession) -> JobRecord:
        record: JobRecord = recorded.fget(self)
        for noted in list(self._notes.values()):
            record = noted(record)
        return record

    deliver = WebhookDispatcher._deliver

    def _deliver(self: WebhookDispatcher) -> Any:
        session, self._session = self._session, cast("Any", _Hasty(self._session, expected))
        try:
            return deliver(self)
        finally:
            self._session = session

    replace(WebhookDispatcher, "_deliver", _deliver)


class _Hasty:
    def __init__(self, session: RecordSession, expected: Callable[[RecordSession], JobRecord]) -> None:
        self.record = evolve(session.record, outbox=expected(session).outbox)
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
