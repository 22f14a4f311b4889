"""Reading and writing job records: compare-and-swap that knows its own writes.

A write goes out once, with the version that its writer holds. If the answer says "conflict", or there is no answer,
the record is read back: our `write_id` there means that it landed; the version that we held still there means that
it did not (yet), and the same bytes are sent again, since at most one of them can land; anything else is somebody's
newer record, for the caller to look at. If reading back fails, the outcome is unknown, and says so.
"""

import random
from typing import Final

from attrs import evolve, frozen

from lifecycle.errors import InvalidRecordError, RetryableError, UnknownOutcomeError, VersionConflictError
from lifecycle.job_record import JobRecord, iso
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ABSENT, Absent, ObjectStore, Version
from lifecycle.record.codec import decode_record, encode_record

TRIES: Final = 4
PAUSE_S: Final = 1.2  # R2 takes one write a second to a key, and answers 429 to more


@frozen
class StoredRecord:
    """A record as it stands in the store.

    Attributes:
        record: It.
        version: For the next write.
        age_s: Seconds since it was written, by the store's clock.
    """

    record: JobRecord
    version: Version
    age_s: float


@frozen
class WriteConflict:
    """The write did not land; *found* stands there instead (None: no record at all)."""

    found: StoredRecord | None


class RecordStore:
    """All records of one bucket."""

    def __init__(self, store: ObjectStore, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng

    def read(self, key: str) -> StoredRecord | None:
        """The record at *key*; None where the store says that there is none.

        Raises:
            RetryableError: It could not be read; nothing is known.
            InvalidRecordError: It cannot be understood.
        """
        stored = self._store.get(key)
        if stored is None:
            return None
        try:
            return StoredRecord(decode_record(stored.body), stored.version, stored.age_s)
        except InvalidRecordError as error:
            raise InvalidRecordError(f"{key}: {error}") from error

    def write(self, key: str, record: JobRecord, expected: Version | Absent) -> StoredRecord | WriteConflict:
        """Write *record* if *expected* is still current.

        Returns:
            What now stands there: ours (`StoredRecord`, with the fresh `write_id`), or another's (`WriteConflict`).

        Raises:
            UnknownOutcomeError: It may or may not have landed; read before writing again.
        """
        stamp = evolve(record.timestamps, updated=iso(self._clock.now()))
        ours = evolve(record, write_id=f"{self._rng.getrandbits(64):016x}", timestamps=stamp)
        body = encode_record(ours)
        for tries_left in reversed(range(TRIES)):
            try:
                return StoredRecord(ours, self._store.put(key, body, expected=expected), 0.0)
            except (VersionConflictError, RetryableError) as error:
                found = self._read_back(key, error)
                if found is not None and found.record.write_id == ours.write_id:
                    return found
                current: Version | Absent = found.version if found else ABSENT
                if current != expected:
                    return WriteConflict(found)
                cause = error
            if tries_left:
                self._clock.sleep(PAUSE_S)
        raise UnknownOutcomeError(f"{key}: not written after {TRIES} tries: {cause}") from cause

    def _read_back(self, key: str, cause: Exception) -> StoredRecord | None:
        try:
            return self.read(key)
        except RetryableError as error:
            raise UnknownOutcomeError(
                f"{key}: the write failed ({cause}), and so did reading back ({error})"
            ) from error
