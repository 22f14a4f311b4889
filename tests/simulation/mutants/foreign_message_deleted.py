"""A worker deletes messages for another prefix, as if they were invalid."""

from simulation.checker import MESSAGE
from simulation.mutants import replace

from lifecycle.attempt.foreign_messages import ForeignMessages
from lifecycle.errors import ForeignMessageError
from lifecycle.ports.queue import Delivery

FOUND_AS = (MESSAGE,)


def install() -> None:
    def give_back(self: ForeignMessages, delivery: Delivery, error: ForeignMessageError) -> None:
        self._queue.delete(delivery)

    replace(ForeignMessages, "give_back", give_back)
