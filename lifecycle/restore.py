"""Bringing committed files back: every byte verified, nothing fetched that lies here already.

What lies here is read once: that tells which pieces are right, and gives the digests of their blocks, which the next
upload compares with. What is missing is fetched by ranges, a few at once, neighbours together.

Missing objects and wrong bytes are damage (`CorruptCheckpointError`: use the checkpoint before); a store that cannot be
read is not (`RetryableError`: hand the job back). Only a record without a checkpoint starts from the beginning.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from attrs import frozen
from zstandard import ZstdDecompressor, ZstdError, frame_content_size

from lifecycle.blocks import Known, Stretch, digests_of
from lifecycle.crew import Crew
from lifecycle.errors import CorruptCheckpointError
from lifecycle.manifest import AREAS, DIGEST_BYTES, Extent, FileEntry, Manifest, decode, digest_blocks, digest_bytes
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore, Range
from lifecycle.record import CheckpointRef

FETCHERS: Final = 4  # ranges on their way at once
MOST_AT_ONCE: Final = 16 << 20  # bytes of a range; so many times FETCHERS are in memory
GAP: Final = 256 << 10  # bytes between two pieces that are rather fetched than asked for apart
LONGEST_FRAME: Final = 1 << 20  # bytes of a decompressed frame: a wrong one must not fill the memory


@frozen
class Restored:
    """What was restored: *ref* as the record names it, what it holds, and the bytes that had to be fetched."""

    ref: CheckpointRef
    known: Known
    fetched: int


def fetch_manifest(store: ObjectStore, ref: CheckpointRef) -> Manifest:
    """Read and verify the manifest that *ref* names.

    Raises:
        CorruptCheckpointError: It is missing, or not what was committed.
        RetryableError: It could not be read.
    """
    stored = store.get(ref.manifest)
    if stored is None:
        raise CorruptCheckpointError(f"{ref.manifest} is missing")
    if digest_bytes(stored.body) != ref.digest:
        raise CorruptCheckpointError(f"{ref.manifest} is not what was committed: its hash differs")
    return decode(stored.body)


def restore(
    store: ObjectStore,
    clock: Clock,
    refs: Iterable[CheckpointRef],
    root: Path,
    *,
    local: Path,
    between: Callable[[], None],
    damaged: Callable[[CheckpointRef, str], None],
) -> Restored | None:
    """Fill a job's directory with the newest sound checkpoint: its `checkpoint/` and `output/`, and nothing else there.

    Args:
        store: Where the checkpoints are.
        clock: For threads.
        refs: Newest first.
        root: The job's directory; what does not belong into those folders is removed from them.
        local: Where snapshots that were taken here may still lie, by number; files that are right are moved.
        between: Called again and again; may raise to interrupt.
        damaged: Told of each checkpoint that was passed over, and why.

    Returns:
        What was restored; None if *refs* is empty.

    Raises:
        CorruptCheckpointError: There are checkpoints, and all are damaged.
        RetryableError: The store could not be read; nothing is known of the checkpoint.
        OSError: The disk would not take it.
    """
    last: CorruptCheckpointError | None = None
    for ref in refs:
        try:
            manifest = fetch_manifest(store, ref)
            filled = fill(store, clock, manifest.files, root, local=local / f"{ref.seq:06d}", between=between)
        except CorruptCheckpointError as error:
            damaged(ref, str(error))
            last = error
        else:
            _remove_others(root, {entry.path for entry in manifest.files})
            known = Known(ref.manifest, manifest, {target.entry.path: target.stretches() for target in filled})
            return Restored(ref, known, sum(target.fetched for target in filled))
    if last is not None:
        raise CorruptCheckpointError(f"no checkpoint is sound; the last one tried: {last}") from last
    return None


def fill(
    store: ObjectStore,
    clock: Clock,
    entries: Iterable[FileEntry],
    root: Path,
    *,
    local: Path | None = None,
    between: Callable[[], None] = lambda: None,
) -> "Sequence[Target]":
    """Make *entries* lie in *root*, verified; each file appears whole or not at all. Safe to repeat.

    Args:
        store: Where their bytes are.
        clock: For threads.
        entries: What is wanted.
        root: Where.
        local: Where the same files may lie as well, under the same paths.
        between: Called again and again; may raise to interrupt.

    Raises:
        CorruptCheckpointError: A piece is missing or wrong, or a path would leave *root*.
        RetryableError: The store could not be read.
        OSError: The disk would not take it.
    """
    targets = [Target(entry, inside(root, entry.path)) for entry in entries]
    for target in targets:
        target.look(inside(local, target.entry.path) if local else None, between)
    wanted = [(target, piece) for target in targets for piece in target.missing]
    read(store, clock, wanted, between=between)
    for target in targets:
        target.put_into_place()
    return targets


def verify(store: ObjectStore, clock: Clock, manifest: Manifest, *, progress: Callable[[int], None]) -> None:
    """Read all that *manifest* names, and compare it with its digests; nothing is kept.

    Args:
        store: Where it is.
        clock: For threads.
        manifest: What to read.
        progress: Told of bytes of files that are right.

    Raises:
        CorruptCheckpointError: A piece is missing or wrong.
        RetryableError: The store could not be read.
    """
    proofs = [Proof(entry, progress) for entry in manifest.files]
    read(store, clock, [(proof, piece) for proof in proofs for piece in pieces_of(proof.entry)], between=lambda: None)
    for proof in proofs:
        proof.conclude()


@frozen
class Piece:
    """An extent of a file, and where in the file it stands."""

    extent: Extent
    start: int


def pieces_of(entry: FileEntry) -> Iterator[Piece]:
    """All pieces of a file, in order."""
    start = 0
    for extent in entry.extents:
        yield Piece(extent, start)
        start += extent.length


class Proof:
    """A file's blocks, as far as they have been read and found to be right.

    Args:
        entry: The file.
        right: Told of bytes that are.
    """

    def __init__(self, entry: FileEntry, right: Callable[[int], None] = lambda _: None) -> None:
        self.entry = entry
        self._right = right
        self._digests = bytearray(DIGEST_BYTES * -(-entry.size // entry.block))

    def is_right(self, piece: Piece, digests: bytes) -> bool:
        """Whether *digests* are those of *piece*'s blocks; notes them if they are."""
        if digest_blocks(digests) != piece.extent.digest:
            return False
        at = piece.start // self.entry.block * DIGEST_BYTES
        self._digests[at : at + len(digests)] = digests
        return True

    def take(self, piece: Piece, content: memoryview) -> None:
        """Take in what has been fetched.

        Raises:
            CorruptCheckpointError: It is not what was committed.
        """
        if len(content) != piece.extent.length or not self.is_right(piece, digests_of(content, self.entry.block)):
            where = f"{piece.extent.pack}, which holds {self.entry.path}"
            raise CorruptCheckpointError(f"{where}, has wrong bytes from {piece.extent.offset} on")
        self._right(len(content))

    def conclude(self) -> None:
        """Make sure that the pieces make up the file.

        Raises:
            CorruptCheckpointError: They do not.
        """
        if digest_blocks(self._digests) != self.entry.digest:
            raise CorruptCheckpointError(f"the pieces of {self.entry.path} do not make up its hash")

    def stretches(self) -> tuple[Stretch, ...]:
        """The file's extents with the digests of their blocks."""
        found, entry = [], self.entry
        for piece in pieces_of(entry):
            first = piece.start // entry.block * DIGEST_BYTES
            end = first + -(-piece.extent.length // entry.block) * DIGEST_BYTES
            found.append(Stretch(piece.extent, entry.block, bytes(self._digests[first:end])))
        return tuple(found)


class Target(Proof):
    """A file on its way to its place.

    Args:
        entry: The file.
        path: Its place.
    """

    def __init__(self, entry: FileEntry, path: Path) -> None:
        super().__init__(entry)
        self._path = path
        self._part = path.with_name(_part_of(path.name))
        self._base: Path | None = None
        self.missing: list[Piece] = list(pieces_of(entry))
        """The pieces that are to be fetched."""

    @property
    def fetched(self) -> int:
        """Bytes of it that had to be fetched."""
        return sum(piece.extent.length for piece in self.missing)

    def look(self, other: Path | None, between: Callable[[], None]) -> None:
        """See what of it lies in its place, or else in *other*."""
        for base in (self._path, other):
            if base is None or base.is_symlink() or not base.is_file():
                continue
            wrong = self._wrong_pieces(base, between)
            if self._base is None or len(wrong) < len(self.missing):
                self.missing, self._base = wrong, base
            if not wrong:
                break
        self._make_part()

    def _wrong_pieces(self, base: Path, between: Callable[[], None]) -> list[Piece]:
        wrong = []
        with base.open("rb") as file:
            for piece in pieces_of(self.entry):
                between()
                digests = bytearray()
                left = piece.extent.length
                while left and (content := file.read(min(left, LONGEST_FRAME))):
                    digests += digests_of(memoryview(content), self.entry.block)
                    left -= len(content)
                if left or not self.is_right(piece, bytes(digests)):
                    wrong.append(piece)
                file.seek(piece.start + piece.extent.length)
        return wrong

    def _make_part(self) -> None:
        """Get the file ready to be written into, beside its place; right pieces of an older one are kept."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._part.unlink(missing_ok=True)  # of an earlier try; or a link, which must not be written through
        if self._base:
            seen = self._base.stat()
            if seen.st_nlink > 1 and (self.missing or seen.st_size != self.entry.size):
                shutil.copyfile(self._base, self._part)  # what is written here must not be written elsewhere too
            else:
                self._base.replace(self._part)
        with self._part.open("ab") as file:
            file.truncate(self.entry.size)

    def take(self, piece: Piece, content: memoryview) -> None:
        """See `Proof.take`; and write it."""
        super().take(piece, content)
        with self._part.open("rb+") as file:
            file.seek(piece.start)
            file.write(content)

    def put_into_place(self) -> None:
        """Let the file appear."""
        self.conclude()
        self._part.chmod(self.entry.mode & 0o777)
        self._part.replace(self._path)


def _part_of(name: str) -> str:
    """What a file is called until it is whole: as no other file of the folder is, however long *name* is."""
    return f".holdfast-{digest_bytes(os.fsencode(name))[-16:]}.part"


def read(
    store: ObjectStore, clock: Clock, wanted: Iterable[tuple[Proof, Piece]], *, between: Callable[[], None]
) -> None:
    """Fetch pieces, a few ranges at once, and give each to its file.

    Raises:
        CorruptCheckpointError, RetryableError, OSError: As `fill`.
    """
    crew = Crew(clock, name="fetch", at_once=FETCHERS)
    batches = list(_batches(wanted))
    for batch in batches:
        between()
        if len(batches) == 1:
            _fetch(store, batch)
        else:
            crew.give(partial(_fetch, store, batch))
    crew.finish()


Batch = Sequence[tuple[Proof, Piece]]
"""Pieces of one pack that are fetched together, in the order in which they lie there."""


def _batches(wanted: Iterable[tuple[Proof, Piece]]) -> Iterator[Batch]:
    batch: list[tuple[Proof, Piece]] = []
    begin = end = 0
    for target, piece in sorted(wanted, key=lambda each: (each[1].extent.pack, each[1].extent.offset)):
        extent = piece.extent
        after = extent.offset + extent.span
        if (
            batch
            and extent.pack == batch[0][1].extent.pack
            and extent.offset <= end + GAP
            and max(after, end) - begin <= MOST_AT_ONCE
        ):
            batch.append((target, piece))
            end = max(end, after)
            continue
        if batch:
            yield batch
        batch, begin, end = [(target, piece)], extent.offset, after
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
    end = max(piece.extent.offset + piece.extent.span for _, piece in batch)
    content = store.get_range(Range(first.pack, first.offset, end - first.offset))
    if content is None:
        raise CorruptCheckpointError(f"{first.pack}, which holds {batch[0][0].entry.path}, is missing")
    whole = memoryview(content)
    frame, frame_at = b"", -1
    for target, piece in batch:
        extent = piece.extent
        at = extent.offset - first.offset
        held = whole[at : at + extent.span]
        if extent.stored is not None:
            if extent.offset != frame_at:
                frame, frame_at = decompressed(held, extent.pack), extent.offset
            held = memoryview(frame)[extent.skip : extent.skip + extent.length]
        target.take(piece, held)


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


def inside(directory: Path, path: str) -> Path:
    """*path* in *directory*, unless a link on the way leads elsewhere.

    Raises:
        CorruptCheckpointError: One does.
    """
    target = directory / path
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise CorruptCheckpointError(f"{path} would be written outside {directory}")
    return target


def _remove_others(root: Path, wanted: set[str]) -> None:
    for area in AREAS:
        for parent, folders, files in os.walk(root / area, topdown=False):
            for name in files:
                path = Path(parent, name)
                if path.relative_to(root).as_posix() not in wanted:
                    path.unlink()
            for name in folders:
                path = Path(parent, name)
                if path.is_symlink():
                    path.unlink()
                elif not any(path.iterdir()):
                    shutil.rmtree(path)
