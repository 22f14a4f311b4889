"""Chunker: cuts files into chunks and puts those that are not in the bucket yet into packs, compressed where it pays.

Each file is read once, from beginning to end, into the place in a pack where its bytes would be stored. Chunks that are
new stay there (docs/adr/0021).
"""

import os
from collections.abc import Callable, Iterator
from io import FileIO
from typing import Final

from attrs import define, field
from zstandard import ZstdCompressor

from lifecycle.checkpoint.chunk_index import ChunkCursor, ChunkIndex
from lifecycle.checkpoint.chunks import ChunkLayout, ChunkRun, ChunkSizes, chunk_digests, file_entry, hole, zero_chunk
from lifecycle.checkpoint.manifest import DIGEST_BYTES, Extent, FileEntry
from lifecycle.checkpoint.packer import Packer
from lifecycle.checkpoint.snapshot import SnapshotFile
from lifecycle.checkpoint.sparse import data_ranges
from lifecycle.checkpoint.tree import open_file
from lifecycle.errors import TornSnapshotError

SAMPLE: Final = 1 / 32  # share of the content that is compressed on trial, to decide whether compression pays
MIN_SAMPLE_BYTES: Final = 4 << 10
MIN_RATIO: Final = 1.15  # with less, the smaller upload is not worth the CPU time
DECISION_BYTES: Final = 16 << 20  # bytes of a file for which one decision holds


@define
class ChunkedFile:
    """A file of a snapshot, with the runs of chunks that it consists of.

    Attributes:
        file: The file.
        chunk_bytes: Size of its chunks, in bytes.
        runs: Its runs, in order.
    """

    file: SnapshotFile
    chunk_bytes: int
    runs: tuple[ChunkRun, ...]

    def entry(self) -> FileEntry:
        """Return its entry for the manifest."""
        return file_entry(self.file.path, self.file.mode, self.chunk_bytes, self.runs, self.file.mtime_ns)


@define
class Chunker:
    """Cuts the files of one snapshot.

    Attributes:
        packer: Takes the chunks that are new.
        chunk_sizes: Sizes of chunks, reads, frames and packs.
        index: Chunks that are in the bucket already.
        check_interrupted: Called before each read; raises to give up.
    """

    packer: Packer
    chunk_sizes: ChunkSizes
    index: ChunkIndex
    check_interrupted: Callable[[], None]
    _layout: ChunkLayout = field(init=False)
    _chunked: list[ChunkedFile] = field(factory=list, init=False)
    _zstd: ZstdCompressor = field(factory=lambda: ZstdCompressor(level=1), init=False)
    _decided_until: int = field(default=0, init=False)
    _compresses: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._layout = ChunkLayout(self.chunk_sizes.small_bytes)

    def chunk_file(self, file: SnapshotFile) -> ChunkedFile:
        """Read *file*, up to the length that it had when the snapshot was captured, and store its new chunks.

        Raises:
            TornSnapshotError: The file has become shorter.
            RetryableError: The store did not accept a pack.
            OSError: The file cannot be read.
        """
        start = self.index.starts.get(file.path)
        cursor = ChunkCursor(len(self.index.runs) if start is None else start, 0)
        # A file keeps its chunk size when it grows beyond the limit: with another one, no chunk would match.
        chunk_bytes = self.index.chunk_bytes_at(start) if start is not None else None
        if chunk_bytes is None or self.chunk_sizes.frame_bytes % chunk_bytes:
            chunk_bytes = self.chunk_sizes.chunk_bytes(file.size)
        if start is None and file.size >= self.chunk_sizes.pack_bytes:
            self.packer.close_pack()  # its packs then hold whole parts of it, which publishing copies within the store
        self._begin(chunk_bytes)
        with open_file(file.source) as source:
            for begin, end in self._data_of(source, file.size, chunk_bytes):
                self._append_hole(begin - self._layout.size, chunk_bytes, cursor)
                for content in self._read(source, file, begin, end - begin):
                    self._append(chunk_digests(content, chunk_bytes), len(content), chunk_bytes, cursor)
            if self._layout.size < file.size:
                self._ensure_length(source, file)
                self._append_hole(file.size - self._layout.size, chunk_bytes, cursor)
        return self._finish(file, chunk_bytes)

    def _data_of(self, source: FileIO, size: int, chunk_bytes: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of whole chunks that may hold data; what is between them is zeros, and is not read."""
        if size <= self.chunk_sizes.read_bytes:  # not worth the question
            if size:
                yield 0, size
            return
        held: tuple[int, int] | None = None
        for begin, end in data_ranges(source.fileno(), size):
            first = begin // chunk_bytes * chunk_bytes
            last = min(-(-end // chunk_bytes) * chunk_bytes, size)
            if held and first <= held[1]:
                held = held[0], max(last, held[1])
                continue
            if held:
                yield held
            held = first, last
        if held:
            yield held

    def _append_hole(self, length: int, chunk_bytes: int, cursor: ChunkCursor) -> None:
        """Append *length* zeros to the file, whole chunks unless they are its end."""
        if length:
            run = hole(length, chunk_bytes)
            self.index.skip(cursor, len(run))
            self._layout.append(run)

    def _ensure_length(self, source: FileIO, file: SnapshotFile) -> None:
        """Make sure that a file that ends with a hole has its length: reading would have shown it."""
        if os.fstat(source.fileno()).st_size < file.size:
            raise TornSnapshotError("it became shorter", [file.path])

    def move_out(self, chunked: ChunkedFile, packs: set[str]) -> None:
        """Store those chunks of a file again that are in one of *packs*, read from its source.

        Raises:
            TornSnapshotError: The file has become shorter.
            RetryableError: The store did not accept a pack.
            OSError: The file cannot be read.
        """
        if all(run.extent.pack not in packs for run in chunked.runs):
            return
        self._begin(chunked.chunk_bytes)
        with open_file(chunked.file.source) as source:
            for run in chunked.runs:
                start, length = self._layout.size, run.extent.length
                if run.extent.pack not in packs:
                    self._layout.append(run)
                    continue
                for content in self._read(source, chunked.file, start, length):
                    digests = chunk_digests(content, chunked.chunk_bytes)
                    self._store(digests, 0, len(content), chunked.chunk_bytes)
        self._chunked.remove(chunked)
        chunked.runs = self._finish(chunked.file, chunked.chunk_bytes).runs

    def all_runs(self) -> Iterator[ChunkRun]:
        """Yield the runs of everything that has been cut so far, wherever they are stored."""
        yield from (run for chunked in self._chunked for run in chunked.runs)
        yield from self._layout.runs()

    def _begin(self, chunk_bytes: int) -> None:
        self._layout = ChunkLayout(chunk_bytes)
        self._decided_until = 0

    def _finish(self, file: SnapshotFile, chunk_bytes: int) -> ChunkedFile:
        chunked = ChunkedFile(file, chunk_bytes, self._layout.runs())
        self._begin(chunk_bytes)
        self._chunked.append(chunked)
        return chunked

    def _read(self, source: FileIO, file: SnapshotFile, start: int, length: int) -> Iterator[memoryview]:
        """Yield *length* bytes from *start* on, one read at a time, each in the packer's read buffer."""
        source.seek(start)
        while length:
            self.check_interrupted()
            content = self.packer.read_buffer(min(length, self.chunk_sizes.read_bytes))
            done = 0
            while done < len(content):
                count = source.readinto(content[done:])
                if not count:
                    raise TornSnapshotError("it became shorter", [file.path])
                done += count
            yield content
            length -= len(content)

    def _append(self, digests: bytes, size: int, chunk_bytes: int, cursor: ChunkCursor) -> None:
        """Append the *size* bytes in the read buffer to the file: known chunks by reference, new ones to a pack."""
        total, done, new_from = len(digests) // DIGEST_BYTES, 0, 0
        while done < total and self.index.runs:
            rest = digests[done * DIGEST_BYTES :]
            found = self.index.match(cursor, rest, chunk_bytes) or self._match_elsewhere(cursor, rest, chunk_bytes)
            if found:
                self._store_chunks(digests, size, chunk_bytes, new_from, done)
                self._layout.append(found)
                done += len(found)
                new_from = done
            else:
                done += 1
        self._store_chunks(digests, size, chunk_bytes, new_from, total)

    def _match_elsewhere(self, cursor: ChunkCursor, digests: bytes, chunk_bytes: int) -> ChunkRun | None:
        """Look for the next chunk in all files, and let the cursor continue where it is found."""
        position = self.index.find(digests[:DIGEST_BYTES], chunk_bytes)
        if position is None:
            return None
        cursor.run, cursor.number = position.run, position.number
        return self.index.match(cursor, digests, chunk_bytes)

    def _store_chunks(self, digests: bytes, size: int, chunk_bytes: int, first: int, end: int) -> None:
        """Store the chunks number *first* to *end* of the *size* bytes in the read buffer."""
        for begin, stop, is_zero in _runs_of_zeros(digests, first, end, zero_chunk(chunk_bytes)):
            if is_zero:
                self._layout.append(hole((stop - begin) * chunk_bytes, chunk_bytes))
            else:
                wanted = digests[begin * DIGEST_BYTES : stop * DIGEST_BYTES]
                self._store(wanted, begin * chunk_bytes, min(stop * chunk_bytes, size), chunk_bytes)

    def _store(self, digests: bytes, first: int, end: int, chunk_bytes: int) -> None:
        """Put the bytes *first* to *end* of the read buffer, whole chunks with *digests*, into a pack."""
        if self._layout.size >= self._decided_until:
            self._decided_until = self._layout.size + DECISION_BYTES
            self._compresses = self._pays(self.packer.buffered(first, end))
        if not self._compresses:
            self._place(self.packer.append_buffered(first, end), end - first, None, digests, chunk_bytes)
            return
        for start in range(first, end, self.chunk_sizes.frame_bytes):
            stop = min(start + self.chunk_sizes.frame_bytes, end)
            first_chunk, end_chunk = (start - first) // chunk_bytes, -(-(stop - first) // chunk_bytes)
            in_frame = digests[first_chunk * DIGEST_BYTES : end_chunk * DIGEST_BYTES]
            frame = self._zstd.compress(self.packer.buffered(start, stop))
            if len(frame) < stop - start:
                place = self.packer.append_instead(frame)
                self._place(place, stop - start, len(frame), in_frame, chunk_bytes)
            else:
                self._place(self.packer.append_buffered(start, stop), stop - start, None, in_frame, chunk_bytes)

    def _place(
        self, place: tuple[str, int], size: int, frame_length: int | None, digests: bytes, chunk_bytes: int
    ) -> None:
        self._layout.append(ChunkRun(Extent(*place, size, "", frame_length), chunk_bytes, digests))

    def _pays(self, content: memoryview) -> bool:
        """Return whether *content* compresses well, judged by a sample from its middle."""
        size = max(int(len(content) * SAMPLE), MIN_SAMPLE_BYTES)
        middle = max(len(content) - size, 0) // 2
        sample = content[middle : middle + size]
        return len(self._zstd.compress(sample)) * MIN_RATIO <= len(sample)


def _runs_of_zeros(digests: bytes, first: int, end: int, zero: bytes) -> Iterator[tuple[int, int, bool]]:
    """Split the chunks number *first* to *end* by whether they are zeros: begin, end and answer for each part."""
    if first == end:
        return
    if zero not in digests:  # nearly always
        yield first, end, False
        return
    begin, was = first, digests[first * DIGEST_BYTES : (first + 1) * DIGEST_BYTES] == zero
    for number in range(first + 1, end):
        is_zero = digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] == zero
        if is_zero != was:
            yield begin, number, was
            begin, was = number, is_zero
    yield begin, end, was
