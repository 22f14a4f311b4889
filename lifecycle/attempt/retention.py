"""Older checkpoints that garbage collection spares, besides the last two."""

from lifecycle.job_record import CheckpointRef, JobRecord, iso
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore
from lifecycle.record.pins import BY_WORKLOAD, Pin, list_pins, put_pin
from lifecycle.record.session import RecordSession


class Retention:
    """Tells which older checkpoints of a job are kept, and pins its milestones. Used by the uploader's thread.

    Args:
        store: Where the pins are.
        clock: For the times of pins.
        keys: The job's keys.
        session: The attempt's hold on the record.
        keep_every: Pin one checkpoint in so many; 0 for none.
    """

    def __init__(
        self, store: ObjectStore, clock: Clock, keys: JobKeys, session: RecordSession, *, keep_every: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._session = session
        self._keep_every = keep_every
        self._pinned: set[int] = set()

    def kept(self) -> list[CheckpointRef]:
        """Pin the last checkpoint if it is a milestone, and return all that are to be kept besides the last two.

        Called once a commit is known to have landed, before anything is removed: see `lifecycle.record.pins`.

        Raises:
            HoldfastError: It is not known what is pinned, so nothing may be removed.
        """
        record = self._session.record
        milestone = self._milestone(record)
        if milestone and milestone.seq not in self._pinned:
            put_pin(self._store, self._keys, Pin(milestone, BY_WORKLOAD, iso(self._clock.now())))
            self._pinned.add(milestone.seq)
        named = (*record.suspects, record.announced, record.proven)
        return [ref for ref in (*named, *(pin.ref for pin in list_pins(self._store, self._keys))) if ref]

    def _milestone(self, record: JobRecord) -> CheckpointRef | None:
        """Return the checkpoint of *record* if it is the first in a run of `keep_every` numbers.

        Numbers may be missing, because a snapshot may hold nothing new, or be torn.
        """
        last, before = record.checkpoint, record.fallback.seq if record.fallback else 0
        if not self._keep_every or last is None or record.result is not None:
            return None
        return last if last.seq // self._keep_every > before // self._keep_every else None
