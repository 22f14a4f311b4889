"""The owner's hold on its record: the one place through which an attempt writes it.

Changes are pure functions of the record and harmless when applied twice. So a write whose answer was lost, and a write
that an operator got in before, are met the same way: take what stands there, apply the change to that, write again.
"""

from datetime import timedelta
from typing import Final

from attrs import evolve

from lifecycle.errors import ConfigError, InvalidRecordError, LeaseLostError, PermanentError, UnknownOutcomeError
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
        clock: For the lock and the gap.
        key: The record's key.
        stored: The record as the claim wrote it.
        write_gap: Least time between two writes.
        observer: Is told of each write that landed.
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
            raise LeaseLostError(f"{record.job}: another worker claimed it first")
        return cls(record_store, clock, key=key, stored=answer, write_gap=write_gap, observer=observer)

    @property
    def record(self) -> JobRecord:
        """The record as last known to stand in the store."""
        return self._stored.record

    def note(self, topic: str, change: Change) -> None:
        """Let *change* go out with the next write; a later note on the same *topic* replaces it. Never waits."""
        self._notes.pop(topic, None)
        self._notes[topic] = change

    def write(self, change: Change) -> JobRecord:
        """Write all notes and *change*, now.

        Raises:
            LeaseLostError: Another epoch stands there, or no record at all; nothing was written.
            UnknownOutcomeError: It may have landed or not; call again with the same change when it matters.
        """
        with self._lock:
            for _ in range(MERGES):
                wanted = self._stored.record
                # An end that landed unnoticed is the last word: what was noted before it stands in it already.
                notes = dict(self._notes) if wanted.state in OWNED else {}
                for noted in (*notes.values(), change):
                    wanted = noted(wanted)
                self._keep_gap()
                try:
                    answer = self._record_store.write(self._key, wanted, self._stored.version)
                except InvalidRecordError as error:
                    raise LeaseLostError(f"{self._key}: another version of Holdfast wrote it: {error}") from error
                except (ConfigError, PermanentError) as error:  # refused; no reason to throw a running job away
                    raise UnknownOutcomeError(f"{self._key}: the store refuses: {error}") from error
                finally:
                    self._written_at = self._clock.monotonic()
                if isinstance(answer, StoredRecord):
                    self._stored = answer
                    self._forget(notes)
                    self._observer.wrote(answer.record)
                    return answer.record
                self._adopt(answer)
        raise UnknownOutcomeError(f"{self._key}: somebody else wrote it {MERGES} times in between")

    def beat(self) -> None:
        """Renew the lease, if the attempt still runs.

        Raises:
            LeaseLostError, UnknownOutcomeError: As `write`.
        """
        if self.record.state in OWNED:
            self.write(lambda record: evolve(record, beat=record.beat + 1) if record.state in OWNED else record)

    def _adopt(self, conflict: WriteConflict) -> None:
        found, ours = conflict.found, self._stored.record
        if found is None:
            raise LeaseLostError(f"{self._key}: the record is gone")
        if found.record.epoch != ours.epoch:
            raise LeaseLostError(
                f"{self._key}: epoch {found.record.epoch} of {found.record.owner} stands there, not our {ours.epoch}"
            )
        if _attempt_of(found.record) != _attempt_of(ours):  # purged, submitted again, and taken: epochs begin anew
            raise LeaseLostError(f"{self._key}: it was made anew, and another attempt stands there")
        self._stored = found

    def _keep_gap(self) -> None:
        self._clock.sleep(self._written_at + self._gap_s - self._clock.monotonic())

    def _forget(self, notes: dict[str, Change]) -> None:
        for topic, noted in notes.items():
            if self._notes.get(topic) is noted:
                del self._notes[topic]


def _attempt_of(record: JobRecord) -> tuple[str, str] | None:
    """Who made the newest attempt, and when: nobody makes two at one moment."""
    return (record.attempts[-1].node, record.attempts[-1].started) if record.attempts else None
