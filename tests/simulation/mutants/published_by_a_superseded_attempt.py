"""Outputs are published before the record says that the job is completed, by whoever believes to own it."""

from attrs import evolve
from simulation.checker import ONE_WINNER

from lifecycle.attempt.attempt import Attempt
from lifecycle.checkpoint.publish import publish
from lifecycle.states import Trigger

FOUND_AS = (ONE_WINNER,)


def install() -> None:
    end = Attempt._end

    def _end(self, ending):
        if ending.trigger is Trigger.COMPLETE:
            publish(
                self._context.store,
                self._context.clock,
                self._message.keys,
                ending.change(evolve(self._session.record)),
            )
        end(self, ending)

    Attempt._end = _end
