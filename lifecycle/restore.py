"""Bringing committed files back: every byte verified, nothing fetched that lies here already.

Missing objects and wrong bytes are damage (`CorruptCheckpointError`: use the checkpoint before); a store that cannot be
read is not (`RetryableError`: hand the job back). Only a record without a checkpoint starts from the beginning.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from lifecycle.errors import CorruptCheckpointError
from lifecycle.manifest import FileEntry, Manifest, decode, digest_bytes, digest_file
from lifecycle.ports.store import ObjectStore
from lifecycle.record import CheckpointRef


@frozen
class Restored:
    """What was restored: *ref* as the record names it, its manifest, and the bytes that had to be fetched."""

    ref: CheckpointRef
    manifest: Manifest
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


def fetch_file(store: ObjectStore, entry: FileEntry, directory: Path) -> int:
    """Make *entry* lie in *directory*, verified; the file appears whole or not at all. Safe to repeat.

    Returns:
        The bytes fetched; 0 if the right file was already there.

    Raises:
        CorruptCheckpointError: A piece is missing or wrong, or the path would leave *directory*.
        RetryableError: The store could not be read.
        OSError: The disk would not take it.
    """
    target = _inside(directory, entry.path)
    if _is_right(target, entry):
        target.chmod(entry.mode & 0o777)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part"[-255:])
    part.unlink(missing_ok=True)  # of an earlier try; or a link, which must not be written through
    try:
        with part.open("xb+") as file:
            _fetch_extents(store, entry, file)
        part.chmod(entry.mode & 0o777)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return entry.size


def restore(
    store: ObjectStore,
    refs: Iterable[CheckpointRef],
    directory: Path,
    *,
    local: Path,
    between: Callable[[], None],
    damaged: Callable[[CheckpointRef, str], None],
) -> Restored | None:
    """Fill *directory* with the newest sound checkpoint, and nothing else.

    Args:
        store: Where the checkpoints are.
        refs: Newest first.
        directory: What to fill; what does not belong there is removed.
        local: Where snapshots that were taken here may still lie, by number; files that are right are moved.
        between: Called between files; may raise to interrupt.
        damaged: Told of each checkpoint that was passed over, and why.

    Returns:
        What was restored; None if *refs* is empty.

    Raises:
        CorruptCheckpointError: There are checkpoints, and all are damaged.
        RetryableError: The store could not be read; nothing is known of the checkpoint.
    """
    last: CorruptCheckpointError | None = None
    for ref in refs:
        try:
            manifest = fetch_manifest(store, ref)
            fetched = _fill(store, manifest, directory, local=local / f"{ref.seq:06d}", between=between)
        except CorruptCheckpointError as error:
            damaged(ref, str(error))
            last = error
        else:
            return Restored(ref, manifest, fetched)
    if last is not None:
        raise CorruptCheckpointError(f"no checkpoint is sound; the last one tried: {last}") from last
    return None


def _fill(store: ObjectStore, manifest: Manifest, directory: Path, *, local: Path, between: Callable[[], None]) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    fetched = 0
    for entry in manifest.files:
        between()
        here, there = _inside(directory, entry.path), _inside(local, entry.path)
        if not _is_right(here, entry) and _is_right(there, entry):
            here.parent.mkdir(parents=True, exist_ok=True)
            there.replace(here)
        fetched += fetch_file(store, entry, directory)
    _remove_others(directory, {entry.path for entry in manifest.files})
    return fetched


def _fetch_extents(store: ObjectStore, entry: FileEntry, file: BinaryIO) -> None:
    whole = hashlib.sha256()
    for extent in entry.extents:
        start = file.tell()
        if not store.get_range(extent.pack, file, offset=extent.offset, length=extent.length):
            raise CorruptCheckpointError(f"{extent.pack}, which holds {entry.path}, is missing")
        file.seek(start)
        piece, read = hashlib.sha256(), 0
        while chunk := file.read(1 << 20):
            piece.update(chunk)
            whole.update(chunk)
            read += len(chunk)
        if read != extent.length or f"sha256:{piece.hexdigest()}" != extent.digest:
            raise CorruptCheckpointError(f"{extent.pack}, which holds {entry.path}, has {read} bytes or a wrong hash")
    if f"sha256:{whole.hexdigest()}" != entry.digest:
        raise CorruptCheckpointError(f"the pieces of {entry.path} do not make up its hash")


def _is_right(path: Path, entry: FileEntry) -> bool:
    try:
        return (
            not path.is_symlink()
            and path.is_file()
            and path.stat().st_size == entry.size
            and digest_file(path) == entry.digest
        )
    except OSError:
        return False


def _inside(directory: Path, path: str) -> Path:
    """*path* in *directory*, unless a link on the way leads elsewhere."""
    target = directory / path
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise CorruptCheckpointError(f"{path} would be written outside {directory}")
    return target


def _remove_others(directory: Path, wanted: set[str]) -> None:
    for parent, folders, files in os.walk(directory, topdown=False):
        for name in files:
            path = Path(parent, name)
            if path.relative_to(directory).as_posix() not in wanted:
                path.unlink()
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink():
                path.unlink()
            elif not any(path.iterdir()):
                shutil.rmtree(path)
