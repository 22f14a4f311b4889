"""ObjectStore: the bucket. One key per job is changed, by compare-and-swap; every other key is written once.

Absence is proof: None or False is answered only where the store itself said that the key is not there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

Body = bytes | bytearray | memoryview
"""What is written; it may be changed once the call has returned, and not before."""
Version = str
"""Opaque, and passed back verbatim (S3: the ETag). Equal bytes may have equal versions."""


@frozen
class Absent:
    """The condition "there is no such key"."""


ABSENT: Final = Absent()


@frozen
class StoredObject:
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
class ListedObject:
    """An object as listed; `age_s` as in `Stored`. Versions of listings are comparable with one another only."""

    key: str
    size_bytes: int
    version: Version
    age_s: float


@frozen
class Range:
    """*length* bytes of the object *key*, from *offset*; *length* is at least 1."""

    key: str
    offset: int
    length: int


class ObjectStore(Protocol):
    """Keys are ASCII paths with `/`. Reads see every write that was acknowledged before them.

    Raises, from every method:
        RetryableError: Unreachable, throttled or failing; whether a write landed is then unknown.
        ConfigError: Wrong bucket or credentials.
        PermanentError: The store refuses it for another reason, and would again.
    """

    def get(self, key: str) -> StoredObject | None:
        """Read a small object whole; None if there is none."""

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """Write an object whole, durable on return.

        Args:
            key: Where.
            body: Some tens of MiB at most.
            expected: The version that must be current, `ABSENT`, or None to write whatever is there. A conditional
                put goes out exactly once, however the adapter is wrapped.

        Raises:
            VersionConflictError: The condition did not hold (a missing key included); nothing was written.
        """

    def get_range(self, wanted: Range) -> bytes | None:
        """Read a piece of an object, some tens of MiB at most.

        Returns:
            None if there is no such object. A shorter object gives fewer bytes: the caller checks.
        """

    def put_file(self, key: str, path: Path) -> None:
        """Write the file's bytes, of any size, under a key that nobody writes twice. Safe to repeat.

        Raises:
            OSError: The file cannot be read.
        """

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """Write an object that consists of *parts*: pieces of others, copied within the store, and bytes from here.

        Args:
            key: Where.
            parts: At least one. All but the last are equally long, and at least 5 MiB. Bytes are asked for one part
                after the other, and again if a part has to be sent again; what that raises comes out here.

        Returns:
            False if an object that a part is of is not there; nothing was written then. Safe to repeat.
        """

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """All keys that start with *prefix*, in key order, fetched page by page."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys, in batches where the store can. A key that is not there is no error. Safe to repeat."""
