"""MemoryStore: a bucket in memory, as strict as R2.

Versions are MD5 sums, like R2's ETags, so equal bytes have equal versions. Ages are differences of whole seconds, as
those of HTTP dates are. With *write_gap_s*, a second write to a key within that time fails, as on R2
(https://developers.cloudflare.com/r2/platform/limits/).
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from lifecycle.errors import RetryableError, VersionConflictError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version


@frozen
class _Object:
    body: bytes
    version: Version
    written_at: float


class MemoryStore:
    """A bucket in memory. Thread-safe.

    Args:
        clock: Used for ages.
        write_gap_s: Least time between two writes to a key, in seconds (R2: 1).
        gives_ages: Whether ages are known, as they are if a store's answers carry a date.
    """

    def __init__(self, clock: Clock, *, write_gap_s: float = 0.0, gives_ages: bool = True) -> None:
        self._clock = clock
        self._gives_ages = gives_ages
        self._gap_s = write_gap_s
        self._objects: dict[str, _Object] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        found = self._objects.get(key)
        return StoredObject(found.body, found.version, self._age_s(found)) if found else None

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`."""
        version = f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324 - an ETag, not a signature
        fresh = _Object(bytes(body), version, self._now())
        with self._lock:
            before = self._objects.get(key)
            if isinstance(expected, Absent):
                if before:
                    raise VersionConflictError(f"{key} exists already")
            elif expected is not None and (before is None or before.version != expected):
                raise VersionConflictError(f"{key} is not at {expected}")
            if before and self._gap_s > 0 and fresh.written_at - before.written_at < self._gap_s:
                raise RetryableError(f"{key}: too many writes in {self._gap_s} s")
            self._objects[key] = fresh
        return fresh.version

    def get_range(self, wanted: Range) -> bytes | None:
        """See `ObjectStore.get_range`."""
        found = self._objects.get(wanted.key)
        return found.body[wanted.offset : wanted.offset + wanted.length] if found else None

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`."""
        self.put(key, path.read_bytes())

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See `ObjectStore.assemble`."""
        pieces = [self.get_range(part) if isinstance(part, Range) else part() for part in parts]
        if None in pieces:
            return False
        self.put(key, b"".join(piece for piece in pieces if piece is not None))
        return True

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See `ObjectStore.list`."""
        with self._lock:
            objects = sorted(self._objects.items())
        for key, found in objects:
            if key.startswith(prefix):
                yield ListedObject(key, len(found.body), found.version, self._age_s(found))

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        for key in keys:
            with self._lock:
                self._objects.pop(key, None)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _age_s(self, found: _Object) -> float | None:
        if not self._gives_ages:
            return None
        return max(float(math.floor(self._now()) - math.floor(found.written_at)), 0.0)


if TYPE_CHECKING:

    def _conforms(store: MemoryStore) -> ObjectStore:
        return store
