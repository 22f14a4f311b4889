"""Index of the chunks that are already in the bucket, by digest and by order.

Most chunks of a file are followed by the same chunk as in the last checkpoint. So the index is used like a merge: a
cursor walks along the file's previous chunks, and the digests are compared as long byte strings. Only when they differ
is a chunk looked up among all others.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from attrs import define, field

from lifecycle.checkpoint.chunks import ChunkRun
from lifecycle.checkpoint.manifest import DIGEST_BYTES

PREFIX_BYTES: Final = 8  # of a digest, used as the key of the lookup table; the whole digest is compared afterwards
MAX_LOOKED_UP: Final = 1 << 18  # chunks in the lookup table, which then takes 40 MiB
NUMBER_BITS: Final = 40


@define
class ChunkCursor:
    """Position among the known chunks.

    Attributes:
        run: Index of a run; may be past the last one.
        number: Number of a chunk in that run; may be past its last one.
    """

    run: int
    number: int


@define
class ChunkIndex:
    """Known chunks.

    Attributes:
        runs: Runs of all known chunks. Those of one file follow one another.
        starts: Index of the first run of each file, by path.
    """

    runs: Sequence[ChunkRun]
    starts: Mapping[str, int]
    _positions: dict[int, int] | None = field(default=None, init=False)

    def chunk_bytes_at(self, run: int) -> int | None:
        """Return the chunk size of run number *run*, in bytes; None if there is no such run."""
        return self.runs[run].chunk_bytes if run < len(self.runs) else None

    def match(self, cursor: ChunkCursor, digests: bytes, chunk_bytes: int) -> ChunkRun | None:
        """Return the known chunks at *cursor* that equal the next chunks of a file.

        Args:
            cursor: Where to look. It is moved past the chunks that were found, or past one chunk that has changed.
            digests: Digests of the file's next chunks, concatenated.
            chunk_bytes: Their size, in bytes.

        Returns:
            The longest matching run, which ends at the latest where the cursor's run ends; None if the first chunk
            differs.
        """
        while cursor.run < len(self.runs) and cursor.number >= len(self.runs[cursor.run]):
            cursor.run, cursor.number = cursor.run + 1, 0
        if cursor.run >= len(self.runs):
            return None
        run = self.runs[cursor.run]
        known = run.digest(cursor.number, len(digests) // DIGEST_BYTES)
        # The common case first: nothing has changed, and one comparison is enough.
        same = len(known) // DIGEST_BYTES if digests.startswith(known) else _common_chunks(known, digests)
        found = run.part(cursor.number, same) if same and run.chunk_bytes == chunk_bytes else None
        cursor.number += same or 1
        return found

    def skip(self, cursor: ChunkCursor, count: int) -> None:
        """Move *cursor* past the next *count* chunks, whatever they are."""
        while count and cursor.run < len(self.runs):
            step = min(count, len(self.runs[cursor.run]) - cursor.number)
            cursor.number, count = cursor.number + step, count - step
            if count:
                cursor.run, cursor.number = cursor.run + 1, 0

    def find(self, digest: bytes, chunk_bytes: int) -> ChunkCursor | None:
        """Return a position of the chunk with *digest* and that size; None if it is unknown."""
        if self._positions is None:  # built at the first miss: not needed if nothing has changed
            self._positions = dict(islice(self._all_positions(), MAX_LOOKED_UP))
        position = self._positions.get(_prefix(digest))
        if position is None:
            return None
        cursor = ChunkCursor(position >> NUMBER_BITS, position & ((1 << NUMBER_BITS) - 1))
        run = self.runs[cursor.run]
        return cursor if run.digest(cursor.number) == digest and run.chunk_bytes == chunk_bytes else None

    def _all_positions(self) -> Iterator[tuple[int, int]]:
        """Yield prefix and position of each chunk. Both are packed into integers to save memory."""
        for index, run in enumerate(self.runs):
            for number in range(len(run)):
                yield _prefix(run.digest(number)), index << NUMBER_BITS | number


def _prefix(digest: bytes) -> int:
    return int.from_bytes(digest[:PREFIX_BYTES])


def _common_chunks(known: bytes, digests: bytes) -> int:
    """Return the number of digests with which both begin."""
    for start in range(0, len(known), DIGEST_BYTES):
        if known[start : start + DIGEST_BYTES] != digests[start : start + DIGEST_BYTES]:
            return start // DIGEST_BYTES
    return len(known) // DIGEST_BYTES
