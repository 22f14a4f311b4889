"""A read-back that finds something unreadable is taken for the proof that another attempt owns the job."""

from simulation.checker import PROOF
from simulation.mutants import replace

from lifecycle.errors import InvalidRecordError, RetryableError, UnknownOutcomeError
from lifecycle.record.record_store import RecordStore, StoredRecord

FOUND_AS = (PROOF,)


def install() -> None:
    def read_back(self: RecordStore, key: str, cause: Exception) -> StoredRecord | None:
        try:
            return self.read(key)
        except InvalidRecordError:
            return None
        except RetryableError as error:
            raise UnknownOutcomeError(str(cause)) from error

    replace(RecordStore, "_read_back", read_back)
