"""ObjectStore: the bucket. One key per job is changed, by compare-and-swap; every other key is written once.

Absence is proof: None or False is answered only where the store itself said that the key is not there.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from attrs import frozen

Version = str
"""Opaque, and passed back verbatim (S3: the ETag). Equal bytes may have equal versions."""


@frozen
class Absent:
    """The condition "there is no such key"."""


ABSENT: Final = Absent()


@frozen
class Stored:
    """An object as read.

    Attributes:
        body: Its bytes.
        version: For a later conditional put.
        age_s: Seconds since it was last written, by the store's own clock, to a second or so; never below 0.
    """

    body: bytes
    version: Version
    age_s: float


@frozen
class Listed:
    """An object as listed; `age_s` as in `Stored`. Versions of listings are comparable with one another only."""

    key: str
    size_bytes: int
    version: Version
    age_s: float


class ObjectStore(Protocol):
    """Keys are ASCII paths with `/`. Reads see every write that was acknowledged before them.

    Raises, from every method:
        RetryableError: Unreachable, throttled or failing; whether a write landed is then unknown.
        ConfigError: Wrong bucket or credentials.
        PermanentError: The store refuses it for another reason, and would again.
    """

    def get(self, key: str) -> Stored | None:
        """Read a small object whole; None if there is none."""

    def put(self, key: str, body: bytes, *, expected: Version | Absent | None = None) -> Version:
        """Write a small object whole, durable on return.

        Args:
            key: Where.
            body: A few MiB at most.
            expected: The version that must be current, `ABSENT`, or None to write whatever is there. A conditional
                put goes out exactly once, however the adapter is wrapped.

        Raises:
            VersionConflictError: The condition did not hold (a missing key included); nothing was written.
        """

    def get_range(self, key: str, into: BinaryIO, *, offset: int, length: int) -> bool:
        """Append *length* bytes of the object, from *offset*, to *into*.

        Returns:
            False if there is no such object; nothing was written then. A shorter object gives fewer bytes: the
            caller checks.

        Raises:
            RetryableError: As above; *into* may hold a part of the bytes and is put back by whoever retries.
            OSError: *into* would not take them.
        """

    def put_file(self, key: str, path: Path) -> None:
        """Write the file's bytes, of any size, under a key that nobody writes twice. Safe to repeat.

        Raises:
            OSError: The file cannot be read.
        """

    def copy(self, source: str, target: str) -> bool:
        """Copy within the store, without moving the bytes through us, any size. Safe to repeat.

        Returns:
            False if there is no such source.
        """

    def list(self, prefix: str) -> Iterator[Listed]:
        """All keys that start with *prefix*, in key order, fetched page by page."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys, in batches where the store can. A key that is not there is no error. Safe to repeat."""
