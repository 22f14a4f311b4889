"""The message is deleted before the record has the outcome, so a crash in between leaves no message."""

from typing import Any

from simulation.checker import MESSAGE
from simulation.mutants import replace

from lifecycle.attempt.effects import AttemptEffects
from lifecycle.machine import edge_of
from lifecycle.states import OWNED

FOUND_AS = (MESSAGE,)


def install() -> None:
    record_transition = AttemptEffects.record_transition

    def deleting(self: AttemptEffects, event: Any) -> None:
        if edge_of(event).destination not in OWNED:
            self._acknowledgement.delete()
        record_transition(self, event)

    replace(AttemptEffects, "record_transition", deleting)
