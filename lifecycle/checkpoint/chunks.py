"""Blocks: how files are cut, and which blocks are in the bucket already, and where.

A block is known by its BLAKE3 digest. The digests of the last commit stay in memory (2 MiB for a GiB in blocks of
16 KiB); none is in the bucket, since whoever restores a checkpoint computes them while verifying it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from attrs import define, field, frozen
from blake3 import blake3

from lifecycle.checkpoint.manifest import DIGEST_BYTES, Extent, FileEntry, Manifest, digest_chunks

PREFIX_BYTES: Final = 8  # of a digest, by which it is found; the rest is compared then
LOOKED_UP: Final = 1 << 18  # blocks at most that are found wherever they lie, which takes 40 MiB
NUMBER_BITS: Final = 40


@frozen(kw_only=True)
class ChunkSizes:
    """How things are cut, in bytes.

    Small blocks send less when little changes here and there, large ones cost less memory (facts: measured, "What a
    delta costs"). A frame is what is compressed at once: so much has to be read for one block of it.

    Attributes:
        small_bytes: The block of a file that is no larger than *large_from_bytes* when it is first seen.
        large_bytes: The block of any other.
        large_from_bytes: See *small_bytes*.
        read_bytes: Read from a file at once; a multiple of both blocks.
        frame_bytes: Compressed at once; a multiple of both blocks.
        pack_bytes: The most that an object holds; a multiple of *read_bytes*.
    """

    small_bytes: int = 16 << 10
    large_bytes: int = 64 << 10
    large_from_bytes: int = 256 << 20
    read_bytes: int = 1 << 20
    frame_bytes: int = 256 << 10
    pack_bytes: int = 16 << 20

    def block(self, size: int) -> int:
        """The block of a file of *size* that was never seen before."""
        return self.small_bytes if size <= self.large_from_bytes else self.large_bytes


DEFAULT_CHUNK_SIZES: Final = ChunkSizes()


@frozen
class ChunkRun:
    """Consecutive blocks of a file: where they lie in the bucket, and the digest of each, one after the other."""

    extent: Extent
    block: int
    digests: bytes

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def digest(self, number: int, count: int = 1) -> bytes:
        """The digests of *count* blocks from *number* on; fewer at the end."""
        return self.digests[number * DIGEST_BYTES : (number + count) * DIGEST_BYTES]

    def part(self, number: int, count: int) -> "ChunkRun":
        """*count* blocks of it, from *number* on."""
        extent, start = self.extent, number * self.block
        length = min(count * self.block, extent.length - start)
        offset, skip = (extent.offset + start, 0) if extent.stored is None else (extent.offset, extent.skip + start)
        part = Extent(extent.pack, offset, length, "", extent.stored, skip)
        return ChunkRun(part, self.block, self.digest(number, count))


@frozen
class BaseCheckpoint:
    """A manifest, and the blocks of its files.

    Attributes:
        key: Where it lies.
        manifest: It.
        stretches: Of each file, by path, in order.
    """

    key: str
    manifest: Manifest
    runs: Mapping[str, Sequence[ChunkRun]]


class ChunkLayout:
    """Where the blocks of one file lie, put together from its beginning; neighbours are joined."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._done: list[ChunkRun] = []
        self._open: Extent | None = None
        self._digests = bytearray()
        self.size = 0
        """Bytes of the file so far."""

    def add(self, run: ChunkRun) -> None:
        """The file goes on with *stretch*."""
        extent = run.extent
        joined = _joined(self._open, extent) if self._open else None
        if joined is None:
            self._close()
        self._open = joined or extent
        self._digests += run.digests
        self.size += extent.length

    def runs(self) -> tuple[ChunkRun, ...]:
        """All of it, the extents with their digests."""
        self._close()
        return tuple(self._done)

    def _close(self) -> None:
        if self._open:
            had, digests = self._open, bytes(self._digests)
            extent = Extent(had.pack, had.offset, had.length, digest_chunks(digests), had.stored, had.skip)
            self._done.append(ChunkRun(extent, self._block, digests))
        self._open, self._digests = None, bytearray()


def _joined(first: Extent, second: Extent) -> Extent | None:
    """Both as one, if *second* goes on in the pack where *first* ends."""
    if first.pack != second.pack or first.stored != second.stored:
        return None
    if first.stored is None:
        adjoin = first.offset + first.length == second.offset
    else:
        adjoin = first.offset == second.offset and first.skip + first.length == second.skip
    if not adjoin:
        return None
    return Extent(first.pack, first.offset, first.length + second.length, "", first.stored, first.skip)


def file_entry(path: str, mode: int, block: int, runs: Sequence[ChunkRun]) -> FileEntry:
    """The manifest's entry of a file that consists of *stretches*."""
    return FileEntry(
        path=path,
        size=sum(run.extent.length for run in runs),
        mode=mode & 0o777,
        block=block,
        digest=digest_chunks(b"".join(run.digests for run in runs)),
        extents=tuple(run.extent for run in runs),
    )


def chunk_digests(content: memoryview, block: int) -> bytes:
    """The digests of the blocks of *content*, one after the other."""
    return b"".join(blake3(content[start : start + block]).digest() for start in range(0, len(content), block))


@define
class Cursor:
    """A place among the known blocks: block *number* of stretch *stretch*; maybe past the last."""

    run: int
    number: int


@define
class ChunkIndex:
    """Finds known blocks by their digests, and what follows them.

    Attributes:
        stretches: All that is known; those of a file one after the other.
        starts: Where in *stretches* those of a file begin, by path.
    """

    runs: Sequence[ChunkRun]
    starts: Mapping[str, int]
    _places: dict[int, int] | None = field(default=None, init=False)

    def block_at(self, place: int) -> int | None:
        """The block size of the stretch at *place*, if there is one."""
        return self.runs[place].block if place < len(self.runs) else None

    def at(self, cursor: Cursor, digests: bytes, block: int) -> ChunkRun | None:
        """As many blocks as the cursor's stretch still has of those with *digests*, if they are the same; moves on.

        Args:
            cursor: Where to look; it is moved over what was found, or by one block over one that has changed.
            digests: Of the blocks to come, one after the other.
            block: Their size.
        """
        while cursor.run < len(self.runs) and cursor.number >= len(self.runs[cursor.run]):
            cursor.run, cursor.number = cursor.run + 1, 0
        if cursor.run >= len(self.runs):
            return None
        here = self.runs[cursor.run]
        wanted = len(digests) // DIGEST_BYTES
        held = here.digest(cursor.number, wanted)
        same = len(held) // DIGEST_BYTES if digests.startswith(held) else _same(held, digests)
        found = here.part(cursor.number, same) if same and here.block == block else None
        cursor.number += same or 1
        return found

    def find(self, digest: bytes, block: int) -> Cursor | None:
        """Any place that holds the block of *digest*."""
        if self._places is None:
            self._places = dict(islice(self._all_places(), LOOKED_UP))
        place = self._places.get(_prefix(digest))
        if place is None:
            return None
        cursor = Cursor(place >> NUMBER_BITS, place & ((1 << NUMBER_BITS) - 1))
        held = self.runs[cursor.run]
        return cursor if held.digest(cursor.number) == digest and held.block == block else None

    def _all_places(self) -> Iterator[tuple[int, int]]:
        for place, run in enumerate(self.runs):
            for number in range(len(run)):
                yield _prefix(run.digest(number)), place << NUMBER_BITS | number


def _prefix(digest: bytes) -> int:
    return int.from_bytes(digest[:PREFIX_BYTES])


def _same(held: bytes, digests: bytes) -> int:
    """How many blocks both begin with."""
    for start in range(0, len(held), DIGEST_BYTES):
        if held[start : start + DIGEST_BYTES] != digests[start : start + DIGEST_BYTES]:
            return start // DIGEST_BYTES
    return len(held) // DIGEST_BYTES
