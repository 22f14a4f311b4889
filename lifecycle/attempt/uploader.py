"""The uploader: a thread with a queue of snapshots, so that an upload never stops the workload.

It uploads one snapshot at a time, announces it to the attempt, and waits until it is committed before it begins the
next: every upload builds on what is really committed. A newer snapshot replaces one that still waits. After a commit it
removes what neither the last two manifests nor the older ones that are kept name.
"""

from collections.abc import Callable, Iterable
from typing import Final

from attrs import frozen

from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import Event, ThreadDied, Uploaded, UploadFailed
from lifecycle.checkpoint.chunks import BaseCheckpoint
from lifecycle.checkpoint.gc import referenced_keys, remove, sweep
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import CheckpointWriter, UploadedCheckpoint
from lifecycle.errors import CorruptCheckpointError, HoldfastError, LeaseLostError, TornSnapshotError
from lifecycle.job_record import CheckpointRef
from lifecycle.ports.clock import Clock, Mailbox, Thread

WAIT_S: Final = 3600.0  # nothing depends on it: the thread only ever waits for its inbox


@frozen
class _Committed:
    """The last `Uploaded` is committed."""


@frozen
class _EndUploads:
    """Request to end the thread."""


class Uploader:
    """Uploads snapshots of one attempt.

    Args:
        writer: Uploads one snapshot.
        clock: Threads and mailboxes.
        kept: The checkpoints that the record names, newest first; at most two.
        check: Runs the workload's own check, and returns what is wrong with a snapshot; None if nothing is.
        events: Where results are announced.
        event_log: The attempt event log.
        after_commit: Called with each committed snapshot; must not fail.
        retained: Returns the older checkpoints that are not to be removed; if it raises, nothing is.
    """

    def __init__(
        self,
        writer: CheckpointWriter,
        clock: Clock,
        *,
        kept: tuple[BaseCheckpoint, ...],
        check: Callable[[Snapshot], str | None],
        events: Mailbox[Event],
        event_log: EventLog,
        after_commit: Callable[[Snapshot], None],
        retained: Callable[[], Iterable[CheckpointRef]] = tuple,
    ) -> None:
        self._writer = writer
        self._kept = kept
        self._events = events
        self._event_log = event_log
        self._after_commit = after_commit
        self._retained = retained
        self._objects = {base.key: referenced_keys([base]) for base in kept}
        self._check = check
        self._inbox: Mailbox[Snapshot | _Committed | _EndUploads] = clock.mailbox()
        self._next: Snapshot | None = None
        self._uncommitted: tuple[Snapshot, UploadedCheckpoint] | None = None
        self._swept = False
        self._stopped = False
        self._committed_files: Snapshot | None = None
        self._thread: Thread = clock.start_thread(self._run, name=f"uploader-{writer.keys.job}", yields=True)

    @property
    def moved_at(self) -> float:
        """When the store last accepted something, by the monotonic clock; 0 if it has accepted nothing yet."""
        return self._writer.moved_at

    def submit(self, snapshot: Snapshot) -> None:
        """Queue *snapshot*, in place of one that still waits. Never waits, never fails."""
        self._inbox.put(snapshot)

    def committed(self) -> None:
        """Learn that the record names the manifest of the last `Uploaded`, and go on. Never waits, never fails."""
        self._inbox.put(_Committed())

    def stop(self, *, timeout_s: float) -> bool:
        """Break off the upload between two reads, drop what waits, and return whether the thread ended in time."""
        self._stopped = True
        self._inbox.put(_EndUploads())
        return self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while self._take_in(WAIT_S):
                if self._next and not self._uncommitted:
                    snapshot, self._next = self._next, None
                    self._upload(snapshot)
        except Exception as error:  # noqa: BLE001 - no thread may die in silence
            self._events.put(ThreadDied("uploader", error))

    def _take_in(self, timeout_s: float) -> bool:
        """Wait for a message and handle all that are there; return False once the thread is to end."""
        item = self._inbox.get(timeout_s)
        while item is not None:
            match item:
                case Snapshot():
                    if self._next:
                        self._next.discard()
                    self._next = item
                case _Committed():
                    self._settle()
                case _EndUploads():
                    return False
            item = self._inbox.get(0)
        return True

    def _upload(self, snapshot: Snapshot) -> None:
        last = self._kept[0] if self._kept else None
        try:
            if wrong := self._check(snapshot):
                raise TornSnapshotError(wrong)
            saved = self._writer.upload(snapshot, last, check_interrupted=self._check_interrupted)
        except (HoldfastError, OSError) as error:
            self._swept = False  # objects may have arrived that no manifest will ever name
            self._events.put(UploadFailed(snapshot, error))
        else:
            self._uncommitted = (snapshot, saved) if saved else None
            self._events.put(Uploaded(snapshot, saved))

    def _check_interrupted(self) -> None:
        if self._stopped:
            raise LeaseLostError("the attempt is over")

    def _settle(self) -> None:
        if self._uncommitted is None:
            return
        (snapshot, saved), self._uncommitted = self._uncommitted, None
        if self._committed_files:
            self._committed_files.discard()
        self._committed_files = snapshot
        self._kept = (saved.base, *self._kept[:1])
        self._objects[saved.base.key] = referenced_keys([saved.base])
        self._after_commit(snapshot)
        self._collect()

    def _collect(self) -> None:
        """Remove what no kept manifest names: once by listing, afterwards by what is no longer kept."""
        store, keys, epoch = self._writer.store, self._writer.keys, self._writer.epoch
        self._writer.forget_failed_uploads()
        try:
            kept = [base.key for base in self._kept]
            for ref in self._retained():
                kept.append(ref.manifest)
                if ref.manifest not in self._objects:
                    self._objects[ref.manifest] = self._read_objects(ref)
            keep = set().union(*(self._objects[manifest] for manifest in kept))
            if self._swept:
                remove(store, set().union(*self._objects.values()) - keep, epoch=epoch)
            else:
                sweep(store, keys, epoch=epoch, keep=keep)
                self._swept = True
            self._objects = {manifest: self._objects[manifest] for manifest in kept}
        except HoldfastError as error:
            self._swept = False
            self._event_log.write("collection_failed", error=str(error))

    def _read_objects(self, ref: CheckpointRef) -> set[str]:
        """Return the keys of an older checkpoint.

        Raises:
            RetryableError: Its manifest cannot be read, or only by a newer worker.
        """
        try:
            return {ref.manifest, *fetch_manifest(self._writer.store, ref).packs}
        except CorruptCheckpointError as error:  # what it named is unknown, and of no use any more
            self._event_log.write("checkpoint_damaged", seq=ref.seq, why=str(error))
            return {ref.manifest}
