"""What the threads of an attempt tell the one that owns the machine."""

from attrs import frozen

from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import UploadedCheckpoint


@frozen
class DrainAsked:
    """The worker is to stop: save, hand back, go."""


@frozen
class CancelAsked:
    """An operator cancelled the job."""


@frozen
class LeaseLost:
    """The heartbeat has proof that another epoch owns the job."""

    why: str


@frozen
class ThreadDied:
    """A thread ended by an error that nobody expected: the attempt cannot go on."""

    name: str
    error: Exception


@frozen
class Uploaded:
    """A snapshot is in the bucket, uncommitted; None if it held nothing new. Waits for `Uploader.resolve`."""

    snapshot: Snapshot
    saved: UploadedCheckpoint | None


@frozen
class UploadFailed:
    """A snapshot could not be uploaded."""

    snapshot: Snapshot
    error: Exception


Event = DrainAsked | CancelAsked | LeaseLost | ThreadDied | Uploaded | UploadFailed
