"""Records are written whatever stands there: two nodes that take a job at once both believe that they have it."""

from simulation.checker import FENCE, LEASE, NEVER_BACK, ONE_WINNER

from lifecycle.ledger import Held, Ledger
from lifecycle.record import encode

FOUND_AS = (FENCE, LEASE, NEVER_BACK, ONE_WINNER)


def install() -> None:
    def write(self: Ledger, key: str, record: object, expected: object) -> Held:
        return Held(record, self._store.put(key, encode(record)), 0.0)  # type: ignore[arg-type]

    Ledger.write = write  # type: ignore[assignment,method-assign]
