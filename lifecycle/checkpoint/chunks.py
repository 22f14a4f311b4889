"""Chunks: the pieces into which files are cut, and the runs of them that are already in the bucket.

A chunk is identified by its BLAKE3 digest. The digests of the last committed checkpoint stay in memory (2 MiB per GiB
of state in chunks of 16 KiB) and are not stored in the bucket, because a restore computes them while it verifies what
it has read.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from attrs import frozen
from blake3 import blake3

from lifecycle.checkpoint.manifest import DIGEST_BYTES, HOLE, MODE_BITS, Extent, FileEntry, Manifest, digest_chunks


@frozen(kw_only=True)
class ChunkSizes:
    """Sizes of chunks, reads, compressed frames and packs, in bytes.

    With small chunks less is sent when a file changes here and there: if 1 % of the pages of a state change at random,
    chunks of 16 KiB send 4 % of it, of 64 KiB 15 %, and of 1 MiB 92 %. Large chunks need less memory.

    Attributes:
        small_bytes: Chunk of a file of up to *large_from_bytes* when it is first seen.
        large_bytes: Chunk of a larger file.
        large_from_bytes: See *small_bytes*.
        read_bytes: Read from a file at a time; a multiple of both chunk sizes.
        frame_bytes: Compressed at a time, and therefore read back to get at any chunk of the frame; a multiple of
            both chunk sizes.
        pack_bytes: Largest size of a pack; a multiple of *read_bytes*.
    """

    small_bytes: int = 16 << 10
    large_bytes: int = 64 << 10
    large_from_bytes: int = 256 << 20
    read_bytes: int = 1 << 20
    frame_bytes: int = 256 << 10
    pack_bytes: int = 16 << 20

    def chunk_bytes(self, size: int) -> int:
        """Return the chunk size for a new file of *size* bytes."""
        return self.small_bytes if size <= self.large_from_bytes else self.large_bytes


DEFAULT_CHUNK_SIZES: Final = ChunkSizes()


@frozen
class ChunkRun:
    """Consecutive chunks of a file that are stored together.

    Attributes:
        extent: Where they are stored.
        chunk_bytes: Size of each chunk but perhaps the last, in bytes.
        digests: Their digests, concatenated.
    """

    extent: Extent
    chunk_bytes: int
    digests: bytes

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def digest(self, number: int, count: int = 1) -> bytes:
        """Return the digests of *count* chunks from *number* on; fewer at the end of the run."""
        return self.digests[number * DIGEST_BYTES : (number + count) * DIGEST_BYTES]

    def part(self, number: int, count: int) -> "ChunkRun":
        """Return the run of *count* chunks of this one, from *number* on."""
        extent, start = self.extent, number * self.chunk_bytes
        length = min(count * self.chunk_bytes, extent.length - start)
        if extent.pack == HOLE:
            offset, skip = 0, 0
        elif extent.frame_length is None:
            offset, skip = extent.offset + start, 0
        else:  # a frame is only readable from its beginning
            offset, skip = extent.offset, extent.skip + start
        part = Extent(extent.pack, offset, length, "", extent.frame_length, skip)
        return ChunkRun(part, self.chunk_bytes, self.digest(number, count))


@frozen
class BaseCheckpoint:
    """A checkpoint whose chunks the next upload can reuse.

    Attributes:
        key: Key of its manifest.
        manifest: The manifest.
        runs: Runs of chunks of each file, in order, by path.
    """

    key: str
    manifest: Manifest
    runs: Mapping[str, Sequence[ChunkRun]]


class ChunkLayout:
    """Placement of one file's chunks, built from its beginning. Runs that are neighbours in a pack are joined.

    Args:
        chunk_bytes: Chunk size of the file, in bytes.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._closed: list[ChunkRun] = []
        self._open: Extent | None = None
        self._digests = bytearray()
        self.size = 0
        """Bytes of the file that have been placed so far."""

    def append(self, run: ChunkRun) -> None:
        """Place the next chunks of the file."""
        extent = run.extent
        joined = _joined(self._open, extent) if self._open else None
        if joined is None:
            self._close()
        self._open = joined or extent
        self._digests += run.digests
        self.size += extent.length

    def runs(self) -> tuple[ChunkRun, ...]:
        """Return all runs, their extents complete with digests."""
        self._close()
        return tuple(self._closed)

    def _close(self) -> None:
        if self._open:
            extent, digests = self._open, bytes(self._digests)
            complete = Extent(
                extent.pack, extent.offset, extent.length, digest_chunks(digests), extent.frame_length, extent.skip
            )
            self._closed.append(ChunkRun(complete, self._chunk_bytes, digests))
        self._open, self._digests = None, bytearray()


def _joined(first: Extent, second: Extent) -> Extent | None:
    """Return both as one extent if *second* continues in the pack, or in the frame, where *first* ends."""
    if first.pack != second.pack or first.frame_length != second.frame_length:
        return None
    if first.pack == HOLE:
        adjoin = True
    elif first.frame_length is None:
        adjoin = first.offset + first.length == second.offset
    else:
        adjoin = first.offset == second.offset and first.skip + first.length == second.skip
    if not adjoin:
        return None
    return Extent(first.pack, first.offset, first.length + second.length, "", first.frame_length, first.skip)


def file_entry(path: str, mode: int, chunk_bytes: int, runs: Sequence[ChunkRun], mtime_ns: int) -> FileEntry:
    """Return the manifest's entry for a file that consists of *runs*."""
    return FileEntry(
        path=path,
        size=sum(run.extent.length for run in runs),
        mode=mode & MODE_BITS,
        chunk_bytes=chunk_bytes,
        digest=digest_chunks(b"".join(run.digests for run in runs)),
        extents=tuple(run.extent for run in runs),
        mtime_ns=mtime_ns,
    )


def chunk_digests(content: memoryview, chunk_bytes: int) -> bytes:
    """Return the digests of the chunks of *content*, concatenated."""
    return b"".join(
        blake3(content[start : start + chunk_bytes]).digest() for start in range(0, len(content), chunk_bytes)
    )


@cache
def zero_chunk(size: int) -> bytes:
    """Return the digest of a chunk of *size* zeros."""
    return blake3(bytes(size)).digest()


def zero_digests(length: int, chunk_bytes: int) -> bytes:
    """Return the digests of the chunks of *length* zeros, concatenated."""
    whole, rest = divmod(length, chunk_bytes)
    return zero_chunk(chunk_bytes) * whole + (zero_chunk(rest) if rest else b"")


def hole(length: int, chunk_bytes: int) -> ChunkRun:
    """Return a run of chunks that consist of zeros, of which nothing is stored."""
    return ChunkRun(Extent(HOLE, 0, length, ""), chunk_bytes, zero_digests(length, chunk_bytes))
