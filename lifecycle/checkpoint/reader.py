"""Pieces of files: read from packs by ranges, several at once, and proven.

Neighbours are fetched together. Whatever is missing or wrong is damage; a store that cannot be read is not.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from attrs import frozen
from zstandard import ZstdDecompressor, ZstdError, frame_content_size

from lifecycle.checkpoint.chunks import ChunkRun, chunk_digests
from lifecycle.checkpoint.manifest import DIGEST_BYTES, Extent, FileEntry, digest_chunks
from lifecycle.concurrency import ThreadPool
from lifecycle.errors import CorruptCheckpointError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore, Range

FETCHERS: Final = 4  # ranges on their way at once
MOST_AT_ONCE: Final = 16 << 20  # bytes of a range; so many times FETCHERS are in memory
GAP: Final = 256 << 10  # bytes between two pieces that are rather fetched than asked for apart
LONGEST_FRAME: Final = 1 << 20  # bytes of a decompressed frame: a wrong one must not fill the memory


@frozen
class PlacedExtent:
    """An extent of a file, and where in the file it stands."""

    extent: Extent
    start: int


def placed_extents(entry: FileEntry) -> Iterator[PlacedExtent]:
    """All pieces of a file, in order."""
    start = 0
    for extent in entry.extents:
        yield PlacedExtent(extent, start)
        start += extent.length


class FileVerifier:
    """A file's blocks, as far as they have been read and found to be right.

    Args:
        entry: The file.
        right: Told of bytes that are.
    """

    def __init__(self, entry: FileEntry, right: Callable[[int], None] = lambda _: None) -> None:
        self.entry = entry
        self._right = right
        self._digests = bytearray(DIGEST_BYTES * -(-entry.size // entry.block))

    def is_right(self, placed: PlacedExtent, digests: bytes) -> bool:
        """Whether *digests* are those of *piece*'s blocks; notes them if they are."""
        if digest_chunks(digests) != placed.extent.digest:
            return False
        at = placed.start // self.entry.block * DIGEST_BYTES
        self._digests[at : at + len(digests)] = digests
        return True

    def take(self, placed: PlacedExtent, content: memoryview) -> None:
        """Take in what has been fetched.

        Raises:
            CorruptCheckpointError: It is not what was committed.
        """
        if len(content) != placed.extent.length or not self.is_right(placed, chunk_digests(content, self.entry.block)):
            where = f"{placed.extent.pack}, which holds {self.entry.path}"
            raise CorruptCheckpointError(f"{where}, has wrong bytes from {placed.extent.offset} on")
        self._right(len(content))

    def conclude(self) -> None:
        """Make sure that the pieces make up the file.

        Raises:
            CorruptCheckpointError: They do not.
        """
        if digest_chunks(self._digests) != self.entry.digest:
            raise CorruptCheckpointError(f"the pieces of {self.entry.path} do not make up its hash")

    def runs(self) -> tuple[ChunkRun, ...]:
        """The file's extents with the digests of their blocks."""
        found, entry = [], self.entry
        for placed in placed_extents(entry):
            first = placed.start // entry.block * DIGEST_BYTES
            end = first + -(-placed.extent.length // entry.block) * DIGEST_BYTES
            found.append(ChunkRun(placed.extent, entry.block, bytes(self._digests[first:end])))
        return tuple(found)


def read(
    store: ObjectStore,
    clock: Clock,
    wanted: Iterable[tuple[FileVerifier, PlacedExtent]],
    *,
    check_interrupted: Callable[[], None],
) -> None:
    """Fetch pieces, a few ranges at once, and give each to its file.

    Raises:
        CorruptCheckpointError: One is missing or wrong.
        RetryableError: The store could not be read.
        OSError: A file would not take its piece.
    """
    pool = ThreadPool(clock, name="fetch", max_threads=FETCHERS)
    batches = list(_batches(wanted))
    for batch in batches:
        check_interrupted()
        if len(batches) == 1:
            _fetch(store, batch)
        else:
            pool.submit(partial(_fetch, store, batch))
    pool.finish()


Batch = Sequence[tuple[FileVerifier, PlacedExtent]]
"""Pieces of one pack that are fetched together, in the order in which they lie there."""


def _batches(wanted: Iterable[tuple[FileVerifier, PlacedExtent]]) -> Iterator[Batch]:
    batch: list[tuple[FileVerifier, PlacedExtent]] = []
    begin = end = 0
    for target, placed in sorted(wanted, key=lambda each: (each[1].extent.pack, each[1].extent.offset)):
        extent = placed.extent
        after = extent.offset + extent.span
        if (
            batch
            and extent.pack == batch[0][1].extent.pack
            and extent.offset <= end + GAP
            and max(after, end) - begin <= MOST_AT_ONCE
        ):
            batch.append((target, placed))
            end = max(end, after)
            continue
        if batch:
            yield batch
        batch, begin, end = [(target, placed)], extent.offset, after
    if batch:
        yield batch


def _fetch(store: ObjectStore, batch: Batch) -> None:
    """Fetch and hand out; once more if it was wrong, since not only the store can be at fault, but also the way."""
    try:
        _fetch_once(store, batch)
    except CorruptCheckpointError:
        _fetch_once(store, batch)


def _fetch_once(store: ObjectStore, batch: Batch) -> None:
    first = batch[0][1].extent
    end = max(placed.extent.offset + placed.extent.span for _, placed in batch)
    content = store.get_range(Range(first.pack, first.offset, end - first.offset))
    if content is None:
        raise CorruptCheckpointError(f"{first.pack}, which holds {batch[0][0].entry.path}, is missing")
    whole = memoryview(content)
    frame, frame_at = b"", -1
    for target, placed in batch:
        extent = placed.extent
        at = extent.offset - first.offset
        held = whole[at : at + extent.span]
        if extent.stored is not None:
            if extent.offset != frame_at:
                frame, frame_at = decompressed(held, extent.pack), extent.offset
            held = memoryview(frame)[extent.skip : extent.skip + extent.length]
        target.take(placed, held)


def decompressed(frame: memoryview, pack: str) -> bytes:
    """What a zstd frame in *pack* holds.

    Raises:
        CorruptCheckpointError: It is none, or holds more than any that was ever written.
    """
    try:
        if not 0 <= frame_content_size(frame) <= LONGEST_FRAME:
            raise CorruptCheckpointError(f"{pack} has wrong bytes: a frame of impossible size")
        return ZstdDecompressor().decompress(frame)
    except ZstdError as error:
        raise CorruptCheckpointError(f"{pack} has wrong bytes: {error}") from error
