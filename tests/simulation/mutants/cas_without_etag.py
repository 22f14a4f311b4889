"""Records are written unconditionally, so two nodes that claim a job at once both believe that they own it."""

from simulation.checker import FENCE, LEASE, NEVER_BACK, ONE_WINNER
from simulation.mutants import replace
from simulation.notifier import TOLD

from lifecycle.errors import RetryableError, UnknownOutcomeError
from lifecycle.job_record import JobRecord
from lifecycle.record.codec import encode_record
from lifecycle.record.record_store import RecordStore, StoredRecord

FOUND_AS = (FENCE, LEASE, NEVER_BACK, ONE_WINNER, TOLD)


def install() -> None:
    def write(self: RecordStore, key: str, record: JobRecord, expected: object) -> StoredRecord:
        try:
            return StoredRecord(record, self._store.put(key, encode_record(record)), 0.0)
        except RetryableError as error:
            raise UnknownOutcomeError(key) from error

    replace(RecordStore, "write", write)
