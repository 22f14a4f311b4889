"""The message is deleted before the record says how the attempt ended: whoever dies in between leaves no message."""

from simulation.checker import MESSAGE

from lifecycle.attempt.attempt import Attempt

FOUND_AS = (MESSAGE,)


def install() -> None:
    end = Attempt._end

    def _end(self, ending):
        self._acknowledgement.delete()
        end(self, ending)

    Attempt._end = _end
