"""The owner's handle on its record: everything that an attempt writes to the record goes through it.

A change is a pure function of the record that has no further effect when it is applied twice. So two situations are
handled alike, a write whose answer was lost and a write of an operator that came first: read the record that exists,
apply the change to it, and write again.
"""

from datetime import timedelta
from typing import Final

from attrs import evolve

from lifecycle.errors import ConfigError, LeaseLostError, PermanentError, UnknownOutcomeError
from lifecycle.job_record import JobRecord
from lifecycle.machine import Change
from lifecycle.ports.clock import Clock
from lifecycle.ports.observer import Observer
from lifecycle.ports.store import ABSENT
from lifecycle.record.record_store import RecordStore, StoredRecord, WriteConflict
from lifecycle.states import OWNED

MERGES: Final = 5
TOKEN_DIGITS: Final = 8  # hexadecimal, of the identity of the write that opened the session


class RecordSession:
    """Writes one job's record for as long as this attempt owns it. Thread-safe.

    Args:
        record_store: Where records are written.
        clock: For the lock, and for the pause between two writes.
        key: Key of the record.
        stored: The record as written when this attempt took the lease.
        write_gap: Shortest time between two writes.
        observer: Observes each write that landed.
    """

    def __init__(
        self,
        record_store: RecordStore,
        clock: Clock,
        *,
        key: str,
        stored: StoredRecord,
        write_gap: timedelta,
        observer: Observer,
    ) -> None:
        self._record_store = record_store
        self._clock = clock
        self._observer = observer
        self._key = key
        self._stored = stored
        self._gap_s = write_gap.total_seconds()
        self._written_at = self.opened_at = clock.monotonic()
        self.renewed_at = self.opened_at
        """When the last write that landed began, by the monotonic clock; the lease counts from then at the earliest."""
        self._notes: dict[str, Change] = {}
        self._lock = clock.lock()
        self.token = stored.record.write_id[:TOKEN_DIGITS]
        """The attempt token. It differs even between two attempts of one epoch, after a purge and a new submission."""

    @classmethod
    def claim(
        cls,
        record_store: RecordStore,
        clock: Clock,
        *,
        key: str,
        record: JobRecord,
        expected: StoredRecord | None,
        write_gap: timedelta,
        observer: Observer,
    ) -> "RecordSession":
        """Write *record*, which takes the lease, and return the session that it begins.

        Args:
            record_store: As for the class.
            clock: As for the class.
            key: As for the class.
            record: The record of the claimed job.
            expected: The record as read; None if there was none.
            write_gap: As for the class.
            observer: As for the class.

        Raises:
            LeaseLostError: Another worker was first; nothing was written.
            UnknownOutcomeError: The write may have landed or not.
        """
        answer = record_store.write(key, record, expected.version if expected else ABSENT)
        if isinstance(answer, WriteConflict):
            found = answer.found
            if found is None or found.record.epoch != record.epoch or _attempt_of(found.record) != _attempt_of(record):
                raise LeaseLostError(f"{record.job}: another worker claimed it first")
            answer = found  # the claim landed, its answer was lost, and an operator wrote before it was read back
        return cls(record_store, clock, key=key, stored=answer, write_gap=write_gap, observer=observer)

    @property
    def record(self) -> JobRecord:
        """The record as last known to be stored."""
        return self._stored.record

    def note(self, topic: str, change: Change) -> None:
        """Add *change* to the next write. A later note on the same *topic* replaces it. Never waits."""
        self._notes.pop(topic, None)
        self._notes[topic] = change

    def write(self, change: Change) -> JobRecord:
        """Write *change* and all notes now. Calling again with the same change is safe.

        Returns:
            The record as written.

        Raises:
            LeaseLostError: The record belongs to another attempt, or is gone; nothing was written.
            UnknownOutcomeError: The write may have landed or not; if it matters, call again with the same change.
        """
        with self._lock:
            for _ in range(MERGES):
                wanted = self._stored.record
                # If the write that ends the attempt has landed unnoticed, notes from before it would reopen the job.
                notes = dict(self._notes) if wanted.state in OWNED else {}
                for noted in (*notes.values(), change):
                    wanted = noted(wanted)
                self._keep_gap()
                began = self._clock.monotonic()
                try:
                    answer = self._record_store.write(self._key, wanted, self._stored.version)
                except (ConfigError, PermanentError) as error:  # refused for now; the workload can run on
                    raise UnknownOutcomeError(f"{self._key}: the store refuses the write: {error}") from error
                finally:
                    self._written_at = self._clock.monotonic()
                if isinstance(answer, StoredRecord):
                    self._stored, self.renewed_at = answer, began
                    self._forget(notes)
                    self._observer.wrote(answer.record)
                    return answer.record
                self._adopt(answer)
        raise UnknownOutcomeError(f"{self._key}: others wrote it {MERGES} times in between")

    def beat(self) -> None:
        """Renew the lease, if the attempt still owns the job.

        Raises:
            LeaseLostError, UnknownOutcomeError: See `write`.
        """
        if self.record.state in OWNED:
            self.write(lambda record: evolve(record, beat=record.beat + 1) if record.state in OWNED else record)

    def _adopt(self, conflict: WriteConflict) -> None:
        found, ours = conflict.found, self._stored.record
        if found is None:
            raise LeaseLostError(f"{self._key}: the record is gone")
        if found.record.epoch != ours.epoch:
            other = f"epoch {found.record.epoch} of {found.record.owner}"
            raise LeaseLostError(f"{self._key}: it belongs to {other}, not to our epoch {ours.epoch}")
        if _attempt_of(found.record) != _attempt_of(ours):  # epochs start again after a purge
            raise LeaseLostError(f"{self._key}: the job was purged and submitted again; another attempt owns it")
        self._stored = found

    def _keep_gap(self) -> None:
        self._clock.sleep(self._written_at + self._gap_s - self._clock.monotonic())

    def _forget(self, notes: dict[str, Change]) -> None:
        """Drop *notes*, which were written, except those that another thread has replaced meanwhile."""
        for topic, noted in notes.items():
            if self._notes.get(topic) is noted:
                del self._notes[topic]


def _attempt_of(record: JobRecord) -> tuple[str, str] | None:
    """Return the node and start of the newest attempt, which identify it: a node makes one attempt at a time."""
    return (record.attempts[-1].node, record.attempts[-1].started) if record.attempts else None
