"""A 412 is not read back, so the owner's own write, answered late, counts as a lost lease."""

from attrs import evolve
from simulation.checker import LIVENESS, MESSAGE, TRUE_COUNTS
from simulation.mutants import replace
from simulation.watch import OWN_TAKE

from lifecycle.errors import RetryableError, UnknownOutcomeError, VersionConflictError
from lifecycle.job_record import JobRecord, iso
from lifecycle.ports.store import Absent, Version
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import PAUSE_S, TRIES, RecordStore, StoredRecord, WriteConflict

FOUND_AS = (TRUE_COUNTS, MESSAGE, LIVENESS, OWN_TAKE)


def install() -> None:
    def write(
        self: RecordStore, key: str, record: JobRecord, expected: Version | Absent
    ) -> StoredRecord | WriteConflict:
        stamp = evolve(record.timestamps, updated=iso(self._clock.now()))
        ours = evolve(record, write_id=f"{self._rng.getrandbits(64):016x}", timestamps=stamp)
        cause: RetryableError | None = None
        for _ in range(TRIES):
            try:
                return StoredRecord(ours, self._store.put(key, encode_record(ours), expected=expected), 0.0)
            except VersionConflictError:
                found = self.read(key)
                assert found is not None
                return WriteConflict(StoredRecord(evolve(found.record, epoch=-1), found.version, found.age_s))
            except RetryableError as error:
                cause = error
            self._clock.sleep(PAUSE_S)
        raise UnknownOutcomeError(str(cause)) from cause

    replace(RecordStore, "write", write)
