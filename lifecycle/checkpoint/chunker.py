"""Cutting files into blocks, and putting those that are nowhere yet into packs, compressed where that pays.

A file is read once, from its beginning to its end, to where a pack would have it: what is new stays there.
"""

from collections.abc import Callable, Iterator
from io import FileIO
from typing import Final

from attrs import define, field
from zstandard import ZstdCompressor

from lifecycle.checkpoint.chunks import ChunkIndex, ChunkLayout, ChunkRun, ChunkSizes, Cursor, chunk_digests, file_entry
from lifecycle.checkpoint.manifest import DIGEST_BYTES, Extent, FileEntry
from lifecycle.checkpoint.packer import Packer
from lifecycle.checkpoint.snapshot import SnapshotFile
from lifecycle.errors import TornSnapshotError

SAMPLE: Final = 1 / 32  # of what is read at once: compressed, to see whether it pays
SMALLEST_SAMPLE: Final = 4 << 10
WORTH: Final = 1.15  # times smaller, at least (facts: performance, 5)
DECIDED_FOR: Final = 16 << 20  # bytes of a file that one sample speaks for


@define
class ChunkedFile:
    """A file of a snapshot, and where its blocks lie."""

    file: SnapshotFile
    block: int
    runs: tuple[ChunkRun, ...]

    def entry(self) -> FileEntry:
        """As the manifest has it."""
        return file_entry(self.file.path, self.file.mode, self.block, self.runs)


@define
class Chunker:
    """Cuts files into blocks, and puts those that are nowhere yet into packs."""

    packs: Packer
    chunk_sizes: ChunkSizes
    index: ChunkIndex
    check_interrupted: Callable[[], None]
    _layout: ChunkLayout = field(init=False)
    _cuts: list[ChunkedFile] = field(factory=list, init=False)
    _zstd: ZstdCompressor = field(factory=lambda: ZstdCompressor(level=1), init=False)
    _judged_until: int = field(default=0, init=False)
    _compresses: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._layout = ChunkLayout(self.chunk_sizes.small_bytes)

    def cut(self, file: SnapshotFile) -> ChunkedFile:
        """Read *file* to the length that it had when the snapshot was taken."""
        start = self.index.starts.get(file.path)
        cursor = Cursor(len(self.index.runs) if start is None else start, 0)
        block = self.index.block_at(start) if start is not None else None
        if block is None or self.chunk_sizes.frame_bytes % block:
            block = self.chunk_sizes.block(file.size)
        if start is None and file.size >= self.chunk_sizes.pack_bytes:
            self.packs.close()  # so that its packs are parts of it, which publishing can copy within the store
        self._begin(block)
        with file.source.open("rb", buffering=0) as source:
            for content in self._pieces(source, file, 0, file.size):
                self._add(chunk_digests(content, block), len(content), block, cursor)
        return self._finished(file, block)

    def move_out(self, cut: ChunkedFile, dead: set[str]) -> None:
        """Put those pieces of a file that lie in *dead* packs elsewhere."""
        if all(run.extent.pack not in dead for run in cut.runs):
            return
        self._begin(cut.block)
        with cut.file.source.open("rb", buffering=0) as source:
            for run in cut.runs:
                start, length = self._layout.size, run.extent.length
                if run.extent.pack not in dead:
                    self._layout.add(run)
                    continue
                for content in self._pieces(source, cut.file, start, length):
                    self._place(chunk_digests(content, cut.block), 0, len(content), cut.block)
        self._cuts.remove(cut)
        cut.runs = self._finished(cut.file, cut.block).runs

    def placed(self) -> Iterator[ChunkRun]:
        """Everything that it has cut so far, wherever it lies."""
        yield from (run for cut in self._cuts for run in cut.runs)
        yield from self._layout.runs()

    def _begin(self, block: int) -> None:
        self._layout = ChunkLayout(block)
        self._judged_until = 0

    def _finished(self, file: SnapshotFile, block: int) -> ChunkedFile:
        cut = ChunkedFile(file, block, self._layout.runs())
        self._begin(block)
        self._cuts.append(cut)
        return cut

    def _pieces(self, source: FileIO, file: SnapshotFile, start: int, length: int) -> Iterator[memoryview]:
        """What stands in *source*, piece by piece, each in the room where a pack would have it."""
        if start:
            source.seek(start)
        while length:
            self.check_interrupted()
            content = self.packs.room(min(length, self.chunk_sizes.read_bytes))
            done = 0
            while done < len(content):
                count = source.readinto(content[done:])
                if not count:
                    raise TornSnapshotError("it became shorter", [file.path])
                done += count
            yield content
            length -= len(content)

    def _add(self, digests: bytes, size: int, block: int, cursor: Cursor) -> None:
        """The file goes on with the *size* bytes in the room, whose blocks have *digests*."""
        total, done, fresh = len(digests) // DIGEST_BYTES, 0, 0
        while done < total and self.index.runs:
            rest = digests[done * DIGEST_BYTES :]
            found = self.index.at(cursor, rest, block) or self._elsewhere(cursor, rest, block)
            if found:
                self._place_blocks(digests, size, block, fresh, done)
                self._layout.add(found)
                done += len(found)
                fresh = done
            else:
                done += 1
        self._place_blocks(digests, size, block, fresh, total)

    def _elsewhere(self, cursor: Cursor, digests: bytes, block: int) -> ChunkRun | None:
        place = self.index.find(digests[:DIGEST_BYTES], block)
        if place is None:
            return None
        cursor.run, cursor.number = place.run, place.number
        return self.index.at(cursor, digests, block)

    def _place_blocks(self, digests: bytes, size: int, block: int, first: int, end: int) -> None:
        if first < end:
            piece = digests[first * DIGEST_BYTES : end * DIGEST_BYTES]
            self._place(piece, first * block, min(end * block, size), block)

    def _place(self, digests: bytes, first: int, end: int, block: int) -> None:
        """Put blocks that are nowhere yet, the bytes *first* to *end* of what is in the room, into a pack."""
        if self._layout.size >= self._judged_until:
            self._judged_until = self._layout.size + DECIDED_FOR
            self._compresses = self._pays(self.packs.seen(first, end))
        if not self._compresses:
            self._lay(self.packs.keep(first, end), end - first, None, digests, block)
            return
        for start in range(first, end, self.chunk_sizes.frame_bytes):
            stop = min(start + self.chunk_sizes.frame_bytes, end)
            of_these = digests[(start - first) // block * DIGEST_BYTES : -(-(stop - first) // block) * DIGEST_BYTES]
            frame = self._zstd.compress(self.packs.seen(start, stop))
            if len(frame) < stop - start:
                self._lay(self.packs.add(frame), stop - start, len(frame), of_these, block)
            else:
                self._lay(self.packs.keep(start, stop), stop - start, None, of_these, block)

    def _lay(self, place: tuple[str, int], size: int, stored: int | None, digests: bytes, block: int) -> None:
        self._layout.add(ChunkRun(Extent(*place, size, "", stored), block, digests))

    def _pays(self, content: memoryview) -> bool:
        size = max(int(len(content) * SAMPLE), SMALLEST_SAMPLE)
        middle = max(len(content) - size, 0) // 2
        sample = content[middle : middle + size]
        return len(self._zstd.compress(sample)) * WORTH <= len(sample)
