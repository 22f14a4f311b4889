"""Reconcile numbers the message before it sends it, so a crash in between leaves none that is valid."""

from typing import Any

import simulation.operators
from simulation.checker import MESSAGE
from simulation.mutants import replace

from client.operations.reconciliation import _record_number, send_missing

FOUND_AS = (MESSAGE,)


def install() -> None:
    def numbered_first(env: Any, missing: Any) -> Any:
        for stored in missing:
            _record_number(env, stored)
        return send_missing(env, missing)

    replace(simulation.operators, "send_missing", numbered_first)
