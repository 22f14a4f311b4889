"""Outputs are published before the record says completed, even by an attempt that is superseded."""

from typing import Any

from simulation.checker import ONE_WINNER
from simulation.mutants import replace

from lifecycle.attempt.effects import AttemptEffects
from lifecycle.checkpoint.publish import publish
from lifecycle.machine import edge_of
from lifecycle.states import Trigger

FOUND_AS = (ONE_WINNER,)


def install() -> None:
    record_transition = AttemptEffects.record_transition

    def publishing(self: AttemptEffects, event: Any) -> None:
        if edge_of(event).trigger is Trigger.COMPLETE:
            context, expected = self._context, event.kwargs["change"](self.session.record)
            publish(context.store, context.clock, self._message.keys, expected)
        record_transition(self, event)

    replace(AttemptEffects, "record_transition", publishing)
