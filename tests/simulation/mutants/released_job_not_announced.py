"""Reconcile looks at queued jobs only, so a released job that has lost its message waits for ever."""

from typing import Any

from simulation.checker import LIVENESS, MESSAGE
from simulation.mutants import replace

import client.operations.reconciliation
from client.operations.reconciliation import is_forgotten
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State

FOUND_AS = (MESSAGE, LIVENESS)


def install() -> None:
    def choosy(stored: StoredRecord, older: Any) -> bool:
        return is_forgotten(stored, older) and stored.record.state is not State.RELEASED

    replace(client.operations.reconciliation, "is_forgotten", choosy)
