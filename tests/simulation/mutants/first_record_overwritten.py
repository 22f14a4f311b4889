"""The first record of a job is written unconditionally, so two nodes with its message both begin it."""

from simulation.checker import FENCE, LEASE, LIVENESS, NEVER_BACK, ONE_WINNER
from simulation.mutants import replace

from lifecycle.errors import RetryableError, UnknownOutcomeError
from lifecycle.job_record import JobRecord
from lifecycle.ports.store import ABSENT, Absent, Version
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore, StoredRecord, WriteConflict

FOUND_AS = (FENCE, LEASE, LIVENESS, NEVER_BACK, ONE_WINNER)


def install() -> None:
    compared = RecordStore.write

    def write(
        self: RecordStore, key: str, record: JobRecord, expected: Version | Absent
    ) -> StoredRecord | WriteConflict:
        if expected is not ABSENT:
            return compared(self, key, record, expected)
        try:
            return StoredRecord(record, self._store.put(key, encode_record(record)), 0.0)
        except RetryableError as error:
            raise UnknownOutcomeError(key) from error

    replace(RecordStore, "write", write)
