"""The message is deleted before the record has the outcome, so a crash in between leaves no message."""

from simulation.checker import MESSAGE

from lifecycle.attempt.effects import AttemptEffects
from lifecycle.machine import edge_of
from lifecycle.states import OWNED

FOUND_AS = (MESSAGE,)


def install() -> None:
    record_transition = AttemptEffects.record_transition

    def deleting(self, event):
        if edge_of(event).destination not in OWNED:
            self._acknowledgement.delete()
        record_transition(self, event)

    AttemptEffects.record_transition = deleting
