"""Errors, named by what the caller should do.

::

    HoldfastError
    ├── RetryableError              call again: it is safe; a write may have landed or not
    │   ├── UnknownOutcomeError     a conditional write may have landed or not: read before writing again
    │   └── NewerManifestError      a newer Holdfast wrote a manifest: leave the job to a newer worker
    ├── PermanentError              calling again changes nothing; the message says what to change
    │   ├── MisfitError             this node lacks something that the job needs: leave the job to another
    │   ├── RejectedMessageError    a queue message is not a valid job
    │   ├── InvalidRecordError      a job record is unreadable, or written by a newer Holdfast
    │   └── CorruptCheckpointError  stored bytes are missing, or are not those that were committed
    ├── ForeignMessageError         a queue message belongs to another bucket or prefix: return it to the queue
    ├── TornSnapshotError           a file changed while it was saved: take another snapshot
    ├── ConfigError                 a setting, a credential, a queue or a bucket is wrong: stop, exit 78
    │   └── UsageError              a value on the command line is wrong: stop, exit 2
    ├── VersionConflictError        another writer came first: read, then merge or give up
    ├── LeaseLostError              another epoch owns the job: kill the workload, write nothing more
    └── IllegalTransitionError      the state table has no such edge: a defect
"""

from collections.abc import Sequence


class HoldfastError(Exception):
    """Base class of every error that Holdfast raises on purpose."""


class RetryableError(HoldfastError):
    """A service is unreachable, throttles, or answered too late. Calling again is safe."""


class UnknownOutcomeError(RetryableError):
    """A conditional write may have landed or not, and reading back failed too."""


class NewerManifestError(RetryableError):
    """A manifest cannot be read by this version. It is not damaged: leave the job to a newer worker."""


class PermanentError(HoldfastError):
    """Calling again changes nothing. The message says what to change."""


class MisfitError(PermanentError):
    """This node lacks something that the job needs. Another may have it.

    Attributes:
        lacks: The missing part in words, such as `program 'gmx'`.
    """

    def __init__(self, lacks: str) -> None:
        super().__init__(f"this image lacks {lacks}")
        self.lacks = lacks


class RejectedMessageError(PermanentError):
    """A queue message is not a valid job."""


class InvalidRecordError(PermanentError):
    """A job record cannot be read. It is left as it is."""


class CorruptCheckpointError(PermanentError):
    """Stored bytes are missing, or are not those that were committed. Use the previous checkpoint."""


class ForeignMessageError(HoldfastError):
    """A queue message belongs to another bucket or prefix. It is left to the workers there."""


class TornSnapshotError(HoldfastError):
    """A snapshot mixes two moments, or fails the workload's own check. It must not be committed.

    Attributes:
        paths: The files that changed, relative to the job's directory; empty if the check failed.
    """

    def __init__(self, why: str, paths: Sequence[str] = ()) -> None:
        others = f", and {len(paths) - 1} more" if paths[1:] else ""
        super().__init__(f"{paths[0]}: {why}{others}" if paths else why)
        self.paths = tuple(paths)


class RewrittenFileError(TornSnapshotError):
    """The known part of files that are said to only grow has changed. They are written to in place."""


class ConfigError(HoldfastError):
    """A setting, a credential, a queue or a bucket is wrong. Stop, and say so in one line."""


class UsageError(ConfigError):
    """A value on the command line is wrong. Nothing was done."""


class VersionConflictError(HoldfastError):
    """An object is not at the version that a conditional write expected."""


class LeaseLostError(HoldfastError):
    """There is proof that another epoch owns the job."""


class IllegalTransitionError(HoldfastError):
    """A trigger was fired in a state that has no edge for it.

    Attributes:
        state: The state, which has not changed.
        trigger: The trigger.
    """

    def __init__(self, state: str, trigger: str) -> None:
        super().__init__(f"no edge {trigger!r} leaves {state!r}")
        self.state = state
        self.trigger = trigger


def reason_of(error: Exception) -> str:
    """Return the reason of an error in words: that of the operating system, and the file, without Python's notation."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
