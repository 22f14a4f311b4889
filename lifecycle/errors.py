"""What can go wrong, named by the remedy.

::

    HoldfastError
    ├── RetryableError           call again, it is safe; the outcome may be unknown
    │   └── UnknownOutcomeError  a conditional write may or may not have landed: read back first
    ├── PermanentError           calling again changes nothing; the message says what to change
    │   ├── RejectedMessageError a queue message is not a job
    │   ├── InvalidRecordError   a job record is unreadable, or written by a newer Holdfast
    │   └── CorruptCheckpointError  stored bytes are not the bytes that were committed
    ├── TornSnapshotError        a file was written to while it was saved: take another snapshot
    ├── ConfigError              a setting, a credential, a queue or a bucket is wrong: stop, exit 78
    ├── VersionConflictError     somebody else wrote first: read, then merge or give up
    ├── LeaseLostError           another epoch owns the job: kill the workload, write nothing more
    └── IllegalTransitionError   the table has no such edge: a defect
"""

from collections.abc import Sequence


class HoldfastError(Exception):
    """The root of every error raised on purpose."""


class RetryableError(HoldfastError):
    """Unreachable, throttled, or answered too late; calling again is safe."""


class UnknownOutcomeError(RetryableError):
    """A conditional write may or may not have landed, and reading back failed too."""


class PermanentError(HoldfastError):
    """Calling again changes nothing; the message says what would."""


class RejectedMessageError(PermanentError):
    """A queue message's body is not a job."""


class InvalidRecordError(PermanentError):
    """A job record cannot be understood; it is left as it is."""


class CorruptCheckpointError(PermanentError):
    """Stored bytes are missing or are not those that were committed; use the checkpoint before."""


class TornSnapshotError(HoldfastError):
    """A snapshot is not of one moment, or fails the workload's own check; it must not be committed.

    Attributes:
        paths: The files that are to blame, relative to the job's directory; none if the check failed.
    """

    def __init__(self, why: str, paths: Sequence[str] = ()) -> None:
        others = f", and {len(paths) - 1} more" if paths[1:] else ""
        super().__init__(f"{paths[0]}: {why}{others}" if paths else why)
        self.paths = tuple(paths)


class ConfigError(HoldfastError):
    """A setting, a credential, a queue or a bucket is wrong; stop and say so in one line."""


class VersionConflictError(HoldfastError):
    """The object is not at the version that the write expected."""


class LeaseLostError(HoldfastError):
    """Proof that another epoch owns the job."""


class IllegalTransitionError(HoldfastError):
    """A trigger was fired in a state that has no edge for it.

    Attributes:
        state: The state that was current, and still is.
        trigger: The trigger that was fired.
    """

    def __init__(self, state: str, trigger: str) -> None:
        super().__init__(f"no edge {trigger!r} leaves {state!r}")
        self.state = state
        self.trigger = trigger
