"""A worker whose take landed without an answer thinks that another worker was first."""

from simulation.mutants import replace
from simulation.watch import OWN_TAKE

from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.ports.store import Absent, Version
from lifecycle.record.record_store import RecordStore, StoredRecord, WriteConflict
from lifecycle.states import State

FOUND_AS = (OWN_TAKE,)


def install() -> None:
    write = RecordStore.write
    read_back = RecordStore._read_back

    def forgetful(
        self: RecordStore, key: str, record: JobRecord, expected: Version | Absent
    ) -> StoredRecord | WriteConflict:
        answer = write(self, key, record, expected)
        was_lost = getattr(self, "_answer_was_lost", False)
        self._answer_was_lost = False  # type: ignore[attr-defined]
        is_take = record.state is State.RECEIVED and record.beat == 0
        return WriteConflict(answer) if is_take and was_lost and isinstance(answer, StoredRecord) else answer

    def noting(self: RecordStore, key: str, cause: Exception) -> StoredRecord | None:
        found = read_back(self, key, cause)
        self._answer_was_lost = isinstance(cause, RetryableError)  # type: ignore[attr-defined]
        return found

    replace(RecordStore, "write", forgetful)
    replace(RecordStore, "_read_back", noting)
