"""Events that the threads of an attempt announce to the one that owns the machine."""

from attrs import frozen

from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import UploadedCheckpoint


@frozen
class DrainAsked:
    """The worker is to stop: save, release the job, exit."""


@frozen
class CancelAsked:
    """An operator cancelled the job."""


@frozen
class LeaseLost:
    """The heartbeat has proof that another epoch owns the job."""

    reason: str


@frozen
class ThreadDied:
    """A thread ended with an unexpected error, so the attempt cannot go on."""

    name: str
    error: Exception


@frozen
class Uploaded:
    """A snapshot is uploaded and not yet committed; `saved` is None if it held nothing new.

    The uploader waits for `Uploader.committed` before it builds on the snapshot.
    """

    snapshot: Snapshot
    saved: UploadedCheckpoint | None


@frozen
class UploadFailed:
    """A snapshot could not be uploaded."""

    snapshot: Snapshot
    error: Exception


Event = DrainAsked | CancelAsked | LeaseLost | ThreadDied | Uploaded | UploadFailed
"""Any of these."""
