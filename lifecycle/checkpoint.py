"""Uploading a snapshot: pack by pack what the last committed manifest does not hold, then the manifest.

Nothing uploaded here counts until the record names the manifest. Every key is new and carries the epoch, so whatever a
superseded attempt still uploads lies where nobody looks. One pack a file; equal bytes are uploaded once.
"""

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from lifecycle.keys import JobKeys
from lifecycle.manifest import Extent, FileEntry, Manifest, digest_bytes, digest_file, encode
from lifecycle.ports.store import ObjectStore
from lifecycle.record import CheckpointRef
from lifecycle.snapshot import Snapshot


@frozen
class Saved:
    """An uploaded, uncommitted checkpoint: how the record will name it, what it holds, and the keys written for it."""

    ref: CheckpointRef
    manifest: Manifest
    keys: tuple[str, ...]


def upload(
    store: ObjectStore,
    keys: JobKeys,
    *,
    epoch: int,
    snapshot: Snapshot,
    last: Manifest | None,
    between: Callable[[], None],
) -> Saved | None:
    """Upload *snapshot*.

    Args:
        store: Where to.
        keys: The job's keys.
        epoch: Ours.
        snapshot: Files that nobody writes to any more.
        last: The last committed manifest; its packs are used again for the bytes that they hold.
        between: Called between files; may raise to give up.

    Returns:
        None if *last* already holds exactly these files, and the attempt goes on.

    Raises:
        RetryableError: The store did not take it.
        OSError: The snapshot cannot be read.
    """
    held = {entry.digest: entry.extents for entry in last.files} if last else {}
    entries: list[FileEntry] = []
    written: list[str] = []
    sent = 0
    for path in snapshot.paths():
        between()
        seen, digest = path.stat(), digest_file(path)
        if digest not in held:
            pack = keys.pack(epoch, f"{snapshot.seq:06d}-{len(written):06d}")
            if seen.st_size:
                store.put_file(pack, path)
                written.append(pack)
            held[digest] = (Extent(pack, 0, seen.st_size, digest),) if seen.st_size else ()
            sent += seen.st_size
        entries.append(_entry(snapshot.directory, path, seen.st_size, seen.st_mode, digest, held[digest]))
    files = tuple(entries)
    if last is not None and files == last.files and not snapshot.is_last:
        return None
    manifest = Manifest(keys.job, epoch, snapshot.seq, snapshot.step, files)
    body, key = encode(manifest), keys.manifest(epoch, snapshot.seq)
    store.put(key, body)
    ref = CheckpointRef(
        manifest=key, digest=digest_bytes(body), seq=snapshot.seq, step=snapshot.step, bytes=manifest.bytes, sent=sent
    )
    return Saved(ref, manifest, (*written, key))


def _entry(directory: Path, path: Path, size: int, mode: int, digest: str, extents: tuple[Extent, ...]) -> FileEntry:
    return FileEntry(path.relative_to(directory).as_posix(), size, mode & 0o777, digest, extents)
