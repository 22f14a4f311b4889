"""Compare-and-swap of job records that recognises its own writes.

A write is sent once, on condition of the version that its writer holds. If the answer is "conflict", or there is none,
the record is read back:

- It has our `write_id`: the write landed.
- It still has the version that we held: the write has not landed. The same bytes are sent again; at most one of the
  two can land.
- Anything else is a newer record, which the caller has to look at.

If reading back fails as well, or finds what this version cannot read, the outcome is unknown, and that is what the
caller is told.
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
PAUSE_S: Final = 1.2  # R2 accepts one write a second to a key: https://developers.cloudflare.com/r2/platform/limits/


@frozen
class StoredRecord:
    """A record as it exists in the store.

    Attributes:
        record: The record.
        version: Its version, for the next write.
        age_s: Seconds since it was written, by the store's clock; None if the store did not give the time.
    """

    record: JobRecord
    version: Version
    age_s: float | None


@frozen
class WriteConflict:
    """Answer to a write that did not land.

    Attributes:
        found: The record that exists instead; None if there is none.
    """

    found: StoredRecord | None


class RecordStore:
    """The records in a bucket. Thread-safe, as its store and clock are.

    Args:
        store: The bucket.
        clock: For timestamps, and for pauses between retries.
        rng: Source of write ids.
    """

    def __init__(self, store: ObjectStore, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng

    def read(self, key: str) -> StoredRecord | None:
        """Return the record at *key*; None if the store says that it does not exist.

        Raises:
            RetryableError: It could not be read; nothing is known.
            InvalidRecordError: It cannot be decoded.
        """
        stored = self._store.get(key)
        if stored is None:
            return None
        try:
            return StoredRecord(decode_record(stored.body), stored.version, stored.age_s)
        except InvalidRecordError as error:
            raise InvalidRecordError(f"{key}: {error}") from error

    def write(self, key: str, record: JobRecord, expected: Version | Absent) -> StoredRecord | WriteConflict:
        """Write *record* if *expected* is still the current version.

        Do not repeat a write whose outcome is unknown: read first. Its `write_id` cannot be recognised any more.

        Returns:
            The record as written, with its new `write_id`; or the conflict with another writer.

        Raises:
            UnknownOutcomeError: The write may have landed or not; read before writing again.
        """
        stamp = evolve(record.timestamps, updated=iso(self._clock.now()))
        ours = evolve(record, write_id=f"{self._rng.getrandbits(64):016x}", timestamps=stamp)
        body = encode_record(ours)
        cause: Exception | None = None
        for tries_left in reversed(range(TRIES)):
            try:
                return StoredRecord(ours, self._store.put(key, body, expected=expected), 0.0)
            except (VersionConflictError, RetryableError) as error:
                # A conflict may be with our own write, if an earlier try landed and its answer was lost.
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
        except (RetryableError, InvalidRecordError) as error:
            # A proxy's page, half a record, or a newer schema proves nothing about who owns the job.
            raise UnknownOutcomeError(
                f"{key}: the write failed ({cause}), and so did reading back ({error})"
            ) from error
