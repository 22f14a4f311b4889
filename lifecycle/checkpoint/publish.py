"""Publishing: a completed job's outputs as plain files, put together within the bucket from the packs that hold them.

Only after the record says completed, and only what the record's manifest names, so it does not matter who does it, how
often, or how many at once. A large file's parts are copied where a part lies in one piece, which it does if the file
was saved at once; what was saved bit by bit goes through here, since R2 wants parts of equal size.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Final
from urllib.parse import quote

from attrs import evolve

from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES
from lifecycle.checkpoint.manifest import FileEntry
from lifecycle.checkpoint.reader import FileVerifier, PlacedExtent, placed_extents, read
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.errors import CorruptCheckpointError
from lifecycle.job_record import JobRecord, Result
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore, Range

DEMO_OUTPUT: Final = "output.txt"
SMALL: Final = 8 << 20  # bytes of a file that is read and put whole
MOST_PARTS: Final = 10_000  # of an object, by S3's limit


def publish(store: ObjectStore, clock: Clock, keys: JobKeys, record: JobRecord) -> None:
    """Make the outputs of *record*, which is completed, lie under `output/`. Safe to repeat.

    Raises:
        RetryableError: Some may be missing; repeat it, or let the next receiver of the message do so.
        CorruptCheckpointError: A committed object is missing or damaged: nothing will bring it back.
        PermanentError: The store will not have a key of that name; the manifest has the file all the same.
    """
    if record.result is None:
        return
    for entry in fetch_manifest(store, record.result.manifest).files:
        _publish_file(store, clock, entry, f"{keys.folder}{_ascii(entry.path)}")
        if record.demo and entry.path == f"output/{DEMO_OUTPUT}":
            _publish_file(store, clock, entry, f"{keys.folder}{DEMO_OUTPUT}")


def with_published(record: JobRecord) -> JobRecord:
    """*record*, saying that its outputs are published."""
    result: Result | None = record.result
    return evolve(record, result=evolve(result, published=True)) if result else record


def with_publish_problem(record: JobRecord, why: str) -> JobRecord:
    """*record*, saying that its outputs never will be published: what is left of them is for people to see."""
    result: Result | None = record.result
    return evolve(record, result=evolve(result, problem=why), error=why) if result else record


def _ascii(path: str) -> str:
    """A file's path as part of a key, which is ASCII: as it is, or percent-encoded."""
    return path if path.isascii() else quote(path.encode("utf-8", "surrogateescape"), safe="/")


def _publish_file(store: ObjectStore, clock: Clock, entry: FileEntry, target: str) -> None:
    if entry.size <= SMALL:
        store.put(target, _content(store, clock, entry, 0, entry.size))
        return
    part = DEFAULT_CHUNK_SIZES.pack_bytes * -(-entry.size // (DEFAULT_CHUNK_SIZES.pack_bytes * MOST_PARTS))
    edges = [*range(0, entry.size, part), entry.size]
    if not store.assemble(target, [_part(store, clock, entry, begin, end) for begin, end in pairwise(edges)]):
        raise CorruptCheckpointError(f"a pack which holds {entry.path} is missing")


def _part(store: ObjectStore, clock: Clock, entry: FileEntry, begin: int, end: int) -> Range | Callable[[], bytes]:
    """Bytes *begin* to *end* of a file: where they lie in one piece, or else how to get them."""
    for placed in placed_extents(entry):
        extent = placed.extent
        if placed.start <= begin and end <= placed.start + extent.length and extent.stored is None:
            return Range(extent.pack, extent.offset + begin - placed.start, end - begin)
    return partial(_content, store, clock, entry, begin, end)


def _content(store: ObjectStore, clock: Clock, entry: FileEntry, begin: int, end: int) -> bytes:
    wanted = [
        placed for placed in placed_extents(entry) if placed.start < end and begin < placed.start + placed.extent.length
    ]
    if not wanted:
        return b""
    kept = _Kept(entry)
    read(store, clock, [(kept, placed) for placed in wanted], check_interrupted=lambda: None)
    whole = b"".join(kept.contents[placed.start] for placed in wanted)
    return whole[begin - wanted[0].start : end - wanted[0].start]


class _Kept(FileVerifier):
    """Keeps what is read of a file, verified, by where it starts."""

    def __init__(self, entry: FileEntry) -> None:
        super().__init__(entry)
        self.contents: dict[int, bytes] = {}

    def take(self, placed: PlacedExtent, content: memoryview) -> None:
        """See `FileVerifier.take`."""
        super().take(placed, content)
        self.contents[placed.start] = bytes(content)
