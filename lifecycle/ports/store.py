"""Port for the bucket. One key per job, its record, is changed by compare-and-swap; every other key is written once.

None and False mean absence, and are returned only if the store itself said that the key does not exist. A store that
cannot be reached raises.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

Body = bytes | bytearray | memoryview
"""Content to write. The caller must not change it before the call has returned."""
Version = str
"""Opaque version of an object, passed back verbatim (S3: the ETag). Equal contents may have equal versions."""


@frozen
class Absent:
    """Type of `ABSENT`."""


ABSENT: Final = Absent()
"""The condition that the key does not exist."""


@frozen
class StoredObject:
    """An object as read.

    Attributes:
        body: Its content.
        version: Its version, for a conditional put.
        age_s: Seconds since it was written, by the store's own clock. At least 0, and exact to about a second,
            because HTTP dates are whole seconds. None if the store did not give the time: this machine's clock never
            stands in for it.
    """

    body: bytes
    version: Version
    age_s: float | None


@frozen
class ListedObject:
    """An object as listed.

    Attributes:
        key: Its key.
        size_bytes: Its size.
        version: Comparable only with versions from other listings.
        age_s: See `StoredObject`.
    """

    key: str
    size_bytes: int
    version: Version
    age_s: float | None


@frozen
class Range:
    """A range of an object's bytes.

    Attributes:
        key: The object's key.
        offset: Where the range begins, in bytes.
        length: Its length in bytes, at least 1.
    """

    key: str
    offset: int
    length: int


class ObjectStore(Protocol):
    """A bucket whose keys are ASCII paths separated by `/`. Thread-safe.

    A read sees every write that was acknowledged before it began (R2:
    https://developers.cloudflare.com/r2/reference/consistency/).

    Raises, from every method:
        RetryableError: The store is unreachable, throttles or fails. A write may have landed or not.
        ConfigError: The bucket or the credentials are wrong; stop the worker.
        PermanentError: The store refuses the call for another reason, and would refuse it again.
    """

    def get(self, key: str) -> StoredObject | None:
        """Read a whole object, some tens of MiB at most; return None if there is none."""

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """Write a whole object. It is durable when the call returns.

        A put without a condition is safe to repeat. A conditional put is not, because a repetition conflicts with
        what the first one wrote. So it is sent exactly once, also by a store that is wrapped for retrying.

        Args:
            key: The object's key.
            body: Its content, some tens of MiB at most.
            expected: The version that must be current, `ABSENT`, or None to overwrite any version.

        Returns:
            The version that was written.

        Raises:
            VersionConflictError: The condition did not hold, or the key with the expected version does not exist;
                nothing was written.
        """

    def get_range(self, wanted: Range) -> bytes | None:
        """Read a range of an object, some tens of MiB at most.

        Returns:
            The bytes, or None if there is no such object. They are fewer than asked for if the object ends before the
            range does; the caller has to check.
        """

    def put_file(self, key: str, path: Path) -> None:
        """Write a file of any size to a key that is written once. Safe to repeat.

        Raises:
            OSError: The file cannot be read.
        """

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """Write an object that is put together from *parts*. Safe to repeat.

        A `Range` of another object is copied inside the store, and never travels through this process.

        Args:
            key: The object's key.
            parts: At least one and at most 10,000. All but the last have the same length, at least 5 MiB
                (https://developers.cloudflare.com/r2/objects/multipart-objects/). A callable returns the bytes of its
                part; the callables are called one after the other, and once more if a part has to be sent again. An
                exception from a callable is passed on.

        Returns:
            False if an object that a `Range` names does not exist; nothing was written.
        """

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """List all keys that start with *prefix*, in key order. Pages are fetched while the caller iterates."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove *keys*, in batches where the store can. A key that does not exist is no error. Safe to repeat."""
