"""Ages of records in a store whose answers give no time.

A record that is read twice at the same version has not been written in between, so it is at least as old as the time
from the end of the first read to the beginning of the second, by this process's own monotonic clock. Every write gives
a record another version. No wall clock is involved: it may be hours off, and a live job would be taken from its owner.
"""

from collections import OrderedDict
from typing import Final

from attrs import evolve, frozen

from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Version
from lifecycle.record.record_store import RecordStore, StoredRecord

KEPT: Final = 10_000  # sightings; the oldest are forgotten first


@frozen
class _Sighting:
    version: Version
    at: float


class RecordSightings:
    """Reads records, and says of each how old it is at least.

    Args:
        record_store: The records.
        clock: Measures the time between two reads.
    """

    def __init__(self, record_store: RecordStore, clock: Clock) -> None:
        self._record_store = record_store
        self._clock = clock
        self._seen: OrderedDict[str, _Sighting] = OrderedDict()

    def read(self, key: str) -> StoredRecord | None:
        """Return the record at *key*, as `RecordStore.read` does, with an age.

        If the store gives no age, it is the time for which this process has seen the record unchanged: 0 at the first
        read.
        """
        began = self._clock.monotonic()
        stored = self._record_store.read(key)
        if stored is None or stored.age_s is not None:
            self._seen.pop(key, None)
            return stored
        seen = self._seen.get(key)
        if seen is None or seen.version != stored.version:
            self._seen[key] = _Sighting(stored.version, self._clock.monotonic())
            if len(self._seen) > KEPT:
                self._seen.popitem(last=False)
            return evolve(stored, age_s=0.0)
        return evolve(stored, age_s=max(began - seen.at, 0.0))

    def is_bound(self, key: str) -> bool:
        """Return whether the age of the record at *key*, as last read, is only the least that it can be."""
        return key in self._seen
