"""Bringing committed files back: every byte verified, nothing fetched that lies here already.

What lies here is read once: that tells which pieces are right, and gives the digests of their blocks, which the next
upload compares with. What is missing is fetched.

Missing objects and wrong bytes are damage (`CorruptCheckpointError`: use the checkpoint before); a store that cannot be
read is not (`RetryableError`: hand the job back). Only a record without a checkpoint starts from the beginning.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from lifecycle.checkpoint.chunks import BaseCheckpoint, chunk_digests
from lifecycle.checkpoint.manifest import AREAS, FileEntry, Manifest, decode_manifest, digest_bytes
from lifecycle.checkpoint.reader import FileVerifier, PlacedExtent, placed_extents, read
from lifecycle.errors import CorruptCheckpointError
from lifecycle.job_record import CheckpointRef
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore

CHUNK: Final = 1 << 20  # bytes of a file that are read at once


@frozen
class RestoredCheckpoint:
    """What was restored: *ref* as the record names it, what it holds, and the bytes that had to be fetched."""

    ref: CheckpointRef
    base: BaseCheckpoint
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
    return decode_manifest(stored.body)


def restore(
    store: ObjectStore,
    clock: Clock,
    refs: Iterable[CheckpointRef],
    root: Path,
    *,
    local: Path,
    check_interrupted: Callable[[], None],
    on_damaged: Callable[[CheckpointRef, str], None],
) -> RestoredCheckpoint | None:
    """Fill a job's directory with the newest sound checkpoint: its `checkpoint/` and `output/`, and nothing else there.

    Args:
        store: Where the checkpoints are.
        clock: For threads.
        refs: Newest first.
        root: The job's directory; what does not belong into those folders is removed from them.
        local: Where snapshots that were taken here may still lie, by number; files that are right are moved.
        check_interrupted: Called again and again; may raise to interrupt.
        on_damaged: Told of each checkpoint that was passed over, and why.

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
            filled = fill(
                store, clock, manifest.files, root, local=local / f"{ref.seq:06d}", check_interrupted=check_interrupted
            )
        except CorruptCheckpointError as error:
            on_damaged(ref, str(error))
            last = error
        else:
            _remove_others(root, {entry.path for entry in manifest.files})
            base = BaseCheckpoint(ref.manifest, manifest, {target.entry.path: target.runs() for target in filled})
            return RestoredCheckpoint(ref, base, sum(target.fetched for target in filled))
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
    check_interrupted: Callable[[], None] = lambda: None,
) -> "Sequence[RestoreTarget]":
    """Make *entries* lie in *root*, verified; each file appears whole or not at all. Safe to repeat.

    Args:
        store: Where their bytes are.
        clock: For threads.
        entries: What is wanted.
        root: Where.
        local: Where the same files may lie as well, under the same paths.
        check_interrupted: Called again and again; may raise to interrupt.

    Raises:
        CorruptCheckpointError: A piece is missing or wrong, or a path would leave *root*.
        RetryableError: The store could not be read.
        OSError: The disk would not take it.
    """
    targets = [RestoreTarget(entry, inside(root, entry.path)) for entry in entries]
    for target in targets:
        target.look(inside(local, target.entry.path) if local else None, check_interrupted)
    wanted = [(target, placed) for target in targets for placed in target.missing]
    read(store, clock, wanted, check_interrupted=check_interrupted)
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
    verifiers = [FileVerifier(entry, progress) for entry in manifest.files]
    read(
        store,
        clock,
        [(verifier, placed) for verifier in verifiers for placed in placed_extents(verifier.entry)],
        check_interrupted=lambda: None,
    )
    for verifier in verifiers:
        verifier.conclude()


class RestoreTarget(FileVerifier):
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
        self.missing: list[PlacedExtent] = list(placed_extents(entry))
        """The pieces that are to be fetched."""

    @property
    def fetched(self) -> int:
        """Bytes of it that had to be fetched."""
        return sum(placed.extent.length for placed in self.missing)

    def look(self, other: Path | None, check_interrupted: Callable[[], None]) -> None:
        """See what of it lies in its place, or else in *other*."""
        for base in (self._path, other):
            if base is None or base.is_symlink() or not base.is_file():
                continue
            wrong = self._wrong_pieces(base, check_interrupted)
            if self._base is None or len(wrong) < len(self.missing):
                self.missing, self._base = wrong, base
            if not wrong:
                break
        self._make_part()

    def _wrong_pieces(self, base: Path, check_interrupted: Callable[[], None]) -> list[PlacedExtent]:
        wrong = []
        with base.open("rb") as file:
            for placed in placed_extents(self.entry):
                check_interrupted()
                digests = bytearray()
                left = placed.extent.length
                while left and (content := file.read(min(left, CHUNK))):
                    digests += chunk_digests(memoryview(content), self.entry.block)
                    left -= len(content)
                if left or not self.is_right(placed, bytes(digests)):
                    wrong.append(placed)
                file.seek(placed.start + placed.extent.length)
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

    def take(self, placed: PlacedExtent, content: memoryview) -> None:
        """See `FileVerifier.take`; and write it."""
        super().take(placed, content)
        with self._part.open("rb+") as file:
            file.seek(placed.start)
            file.write(content)

    def put_into_place(self) -> None:
        """Let the file appear."""
        self.conclude()
        self._part.chmod(self.entry.mode & 0o777)
        self._part.replace(self._path)


def is_part(name: str) -> bool:
    """Whether a file of that name is one that was not fetched to its end."""
    return name.startswith(".holdfast-") and name.endswith(".part")


def _part_of(name: str) -> str:
    """What a file is called until it is whole: as no other file of the folder is, however long *name* is."""
    return f".holdfast-{digest_bytes(os.fsencode(name))[-16:]}.part"


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
