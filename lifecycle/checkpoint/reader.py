"""Reading extents from packs: by ranges, several at a time, and verified.

Neighbours in a pack are fetched together. Bytes that are missing or wrong mean a damaged checkpoint; a store that does
not answer does not.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from attrs import frozen
from zstandard import ZstdDecompressor, ZstdError, frame_content_size

from lifecycle.checkpoint.chunks import ChunkRun, chunk_digests, zero_digests
from lifecycle.checkpoint.manifest import DIGEST_BYTES, HOLE, Extent, FileEntry, digest_chunks
from lifecycle.concurrency import ThreadPool
from lifecycle.errors import CorruptCheckpointError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore, Range

FETCHERS: Final = 4  # ranges that are fetched at a time
MAX_RANGE_BYTES: Final = 16 << 20  # times FETCHERS are in memory
MAX_GAP_BYTES: Final = 256 << 10  # between two extents: fetching a gap is faster than a second request
MAX_FRAME_BYTES: Final = 1 << 20  # decompressed: a damaged frame must not fill the memory


@frozen
class PlacedExtent:
    """An extent, and its place in a file.

    Attributes:
        extent: The extent.
        start: Where it begins in the file, in bytes.
    """

    extent: Extent
    start: int


def placed_extents(entry: FileEntry) -> Iterator[PlacedExtent]:
    """Yield the extents of a file, in order."""
    start = 0
    for extent in entry.extents:
        yield PlacedExtent(extent, start)
        start += extent.length


def stored_extents(entry: FileEntry) -> Iterator[PlacedExtent]:
    """Yield the extents of a file that are stored in packs: all but the holes."""
    return (placed for placed in placed_extents(entry) if placed.extent.pack != HOLE)


class FileVerifier:
    """Receives the extents of one file, in any order, and verifies them.

    Several threads may use it, each for different extents.

    Args:
        entry: The file, as its manifest describes it.
        on_verified: Called with the number of bytes of each extent that was received and verified.
    """

    def __init__(self, entry: FileEntry, on_verified: Callable[[int], None] = lambda _: None) -> None:
        self.entry = entry
        self._on_verified = on_verified
        self._digests = bytearray(DIGEST_BYTES * -(-entry.size // entry.chunk_bytes))
        for placed in placed_extents(entry):
            if placed.extent.pack == HOLE:  # nothing is received; a wrong digest shows in `conclude`
                self.accept_digests(placed, zero_digests(placed.extent.length, entry.chunk_bytes))
                on_verified(placed.extent.length)

    def accept_digests(self, placed: PlacedExtent, digests: bytes) -> bool:
        """Compare the *digests* of an extent's chunks with the manifest, and keep them if they are right.

        Returns:
            False if they are wrong.
        """
        if digest_chunks(digests) != placed.extent.digest:
            return False
        at = placed.start // self.entry.chunk_bytes * DIGEST_BYTES
        self._digests[at : at + len(digests)] = digests
        return True

    def receive(self, placed: PlacedExtent, content: memoryview) -> None:
        """Verify the *content* of an extent that was fetched.

        Raises:
            CorruptCheckpointError: It is not what was committed.
        """
        digests = chunk_digests(content, self.entry.chunk_bytes)
        if len(content) != placed.extent.length or not self.accept_digests(placed, digests):
            where = f"{placed.extent.pack}, which holds {self.entry.path}"
            raise CorruptCheckpointError(f"{where}, has wrong bytes from {placed.extent.offset} on")
        self._on_verified(len(content))

    def conclude(self) -> None:
        """Verify that the extents together are the file.

        The digests of the extents alone do not show that: a damaged manifest may list sound extents of another file.

        Raises:
            CorruptCheckpointError: They are not.
        """
        if digest_chunks(self._digests) != self.entry.digest:
            raise CorruptCheckpointError(f"the extents of {self.entry.path} do not match its digest")

    def runs(self) -> tuple[ChunkRun, ...]:
        """Return the file's runs of chunks, for the next upload to reuse. All extents must have been verified."""
        found, entry = [], self.entry
        for placed in placed_extents(entry):
            first = placed.start // entry.chunk_bytes * DIGEST_BYTES
            end = first + -(-placed.extent.length // entry.chunk_bytes) * DIGEST_BYTES
            found.append(ChunkRun(placed.extent, entry.chunk_bytes, bytes(self._digests[first:end])))
        return tuple(found)


def read_extents(
    store: ObjectStore,
    clock: Clock,
    wanted: Iterable[tuple[FileVerifier, PlacedExtent]],
    *,
    check_interrupted: Callable[[], None],
) -> None:
    """Fetch extents and hand each to the verifier of its file.

    Args:
        store: Where the packs are.
        clock: Source of threads.
        wanted: The extents, in any order.
        check_interrupted: Called before each range; raises to give up.

    Raises:
        CorruptCheckpointError: An extent is missing or wrong.
        RetryableError: The store could not be read.
        OSError: A verifier could not write its extent to the disk.
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
"""Extents of one pack that are fetched together, in order of their offsets."""


def _batches(wanted: Iterable[tuple[FileVerifier, PlacedExtent]]) -> Iterator[Batch]:
    batch: list[tuple[FileVerifier, PlacedExtent]] = []
    begin = end = 0
    for verifier, placed in sorted(wanted, key=lambda each: (each[1].extent.pack, each[1].extent.offset)):
        extent = placed.extent
        after = extent.offset + extent.span
        if (
            batch
            and extent.pack == batch[0][1].extent.pack
            and extent.offset <= end + MAX_GAP_BYTES
            and max(after, end) - begin <= MAX_RANGE_BYTES
        ):
            batch.append((verifier, placed))
            end = max(end, after)
            continue
        if batch:
            yield batch
        batch, begin, end = [(verifier, placed)], extent.offset, after
    if batch:
        yield batch


def _fetch(store: ObjectStore, batch: Batch) -> None:
    """Fetch a batch; once more if it is wrong, because the fault may lie in the transfer and not in the store."""
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
    for verifier, placed in batch:
        extent = placed.extent
        at = extent.offset - first.offset
        stored = whole[at : at + extent.span]
        if extent.frame_length is not None:
            if extent.offset != frame_at:  # several extents may lie in one frame
                frame, frame_at = decompressed(stored, extent.pack), extent.offset
            stored = memoryview(frame)[extent.skip : extent.skip + extent.length]
        verifier.receive(placed, stored)


def decompressed(frame: memoryview, pack: str) -> bytes:
    """Return the content of a zstd frame in *pack*.

    Raises:
        CorruptCheckpointError: It is not a frame, or declares a size larger than any that was ever written.
    """
    try:
        if not 0 <= frame_content_size(frame) <= MAX_FRAME_BYTES:
            raise CorruptCheckpointError(f"{pack} has wrong bytes: a frame of impossible size")
        return ZstdDecompressor().decompress(frame)
    except ZstdError as error:
        raise CorruptCheckpointError(f"{pack} has wrong bytes: {error}") from error
