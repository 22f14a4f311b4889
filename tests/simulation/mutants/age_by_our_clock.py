"""If the store gives no ages, the time in the record is compared with the clock of the node that reads it."""

from datetime import datetime

from attrs import evolve
from simulation.checker import LEASE
from simulation.mutants import replace
from simulation.truth import TAKEN_SOON

from lifecycle.record.record_store import StoredRecord
from lifecycle.record.sightings import RecordSightings

FOUND_AS = (LEASE, TAKEN_SOON)


def install() -> None:
    def read(self: RecordSightings, key: str) -> StoredRecord | None:
        stored = self._record_store.read(key)
        if stored is None or stored.age_s is not None:
            return stored
        written = datetime.fromisoformat(stored.record.timestamps.updated or "")
        return evolve(stored, age_s=max((self._clock.now() - written).total_seconds(), 0.0))

    replace(RecordSightings, "read", read)
