"""Restoring committed files: every byte is verified, and nothing is fetched that is already on the disk.

Files on the disk are read once. That tells which of their extents are right, and computes the digests with which the
next upload compares. Only the rest is fetched.

Missing objects and wrong bytes are damage (`CorruptCheckpointError`: the previous checkpoint is used). A store that
does not answer is not (`RetryableError`: the job is released). A job starts from the beginning only if its record names
no checkpoint.
"""

import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from lifecycle.checkpoint.chunks import BaseCheckpoint
from lifecycle.checkpoint.manifest import FileEntry, Manifest, digest_bytes
from lifecycle.checkpoint.manifest_codec import decode_manifest
from lifecycle.checkpoint.reader import FileVerifier, read_extents, stored_extents
from lifecycle.checkpoint.restore_target import RestoreTarget
from lifecycle.checkpoint.restore_tree import finish, make_room
from lifecycle.checkpoint.tree import is_directory, make_directories
from lifecycle.errors import CorruptCheckpointError, MisfitError
from lifecycle.job_record import CheckpointRef
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore

TRIES: Final = 2
UNFIT_DISK: Final = frozenset({errno.ENAMETOOLONG, errno.EFBIG, errno.EINVAL})
"""Errors that lie in the kind of disk: it cannot hold files that another could."""


@frozen
class RestoredCheckpoint:
    """A checkpoint that was restored.

    Attributes:
        ref: Reference to it, as in the record.
        base: The checkpoint, for the next upload to build on.
        fetched_bytes: Number of bytes that had to be fetched.
    """

    ref: CheckpointRef
    base: BaseCheckpoint
    fetched_bytes: int


def fetch_manifest(store: ObjectStore, ref: CheckpointRef) -> Manifest:
    """Read and verify the manifest that *ref* refers to.

    Raises:
        CorruptCheckpointError: It is missing, or not what was committed.
        NewerManifestError: A newer Holdfast wrote it.
        RetryableError: It could not be read.
    """
    for _ in range(TRIES):  # the fault may lie in the transfer and not in the store
        stored = store.get(ref.manifest)
        if stored is None:
            raise CorruptCheckpointError(f"{ref.manifest} is missing")
        if digest_bytes(stored.body) == ref.digest:
            return decode_manifest(stored.body)
    raise CorruptCheckpointError(f"{ref.manifest} is not what was committed: its digest differs")


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
    """Fill a job's `checkpoint/` and `output/` with the newest sound checkpoint, and remove all else from them.

    Safe to repeat; what an interrupted restore has completed is reused.

    Args:
        store: Where the checkpoints are.
        clock: Source of threads.
        refs: The checkpoints to try, newest first.
        root: The job's directory.
        local: Directory of the job's snapshots on this node, by number. Files that are right are moved from there.
        check_interrupted: Called again and again; raises to give up.
        on_damaged: Called with each checkpoint that is damaged, and the reason.

    Returns:
        The checkpoint that was restored; None if *refs* is empty.

    Raises:
        CorruptCheckpointError: All of the checkpoints are damaged.
        MisfitError: This node's disk cannot hold files of that name or size.
        RetryableError: The store could not be read; nothing is known about the checkpoint.
        OSError: The disk cannot be read or written.
    """
    last: CorruptCheckpointError | None = None
    for ref in refs:
        snapshot = local / f"{ref.seq:06d}"
        try:
            manifest = fetch_manifest(store, ref)
            make_room(root, manifest)
            filled = fill(
                store,
                clock,
                manifest.files,
                root,
                local=snapshot,
                replace_links=True,
                check_interrupted=check_interrupted,
            )
            finish(root, manifest, inside=False)
        except CorruptCheckpointError as error:
            on_damaged(ref, str(error))
            last = error
        except OSError as error:
            if error.errno not in UNFIT_DISK:
                raise
            raise MisfitError(f"a disk that can hold the checkpoint {ref.manifest}: {error}") from error
        else:
            base = BaseCheckpoint(ref.manifest, manifest, {target.entry.path: target.runs() for target in filled})
            return RestoredCheckpoint(ref, base, sum(target.fetched_bytes for target in filled))
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
    replace_links: bool = False,
    check_interrupted: Callable[[], None] = lambda: None,
) -> Sequence[RestoreTarget]:
    """Restore *entries* into *root*. Each file appears complete and verified, or not at all. Safe to repeat.

    Args:
        store: Where the packs are.
        clock: Source of threads.
        entries: The files.
        root: Directory that their paths are relative to.
        local: Second directory where the files may be, under the same paths.
        replace_links: Whether a link or a file in the place of a directory is removed; otherwise it is an error.
        check_interrupted: Called again and again; raises to give up.

    Returns:
        The restored files, in the order of *entries*.

    Raises:
        CorruptCheckpointError: An extent is missing or wrong.
        RetryableError: The store could not be read.
        OSError: The disk cannot be read or written.
    """
    targets = [RestoreTarget(entry, root / entry.path) for entry in entries]
    parents = {target.entry.path: target.entry.path.rpartition("/")[0] for target in targets}
    for parent in dict.fromkeys(parents.values()):
        make_directories(root, parent, replace=replace_links)
    at_hand = {parent for parent in set(parents.values()) if local and is_directory(local, parent)}
    taken: set[tuple[int, int]] = set()
    for target in targets:
        path = target.entry.path
        target.prepare(local / path if local and parents[path] in at_hand else None, taken, check_interrupted)
    wanted = [(target, placed) for target in targets for placed in target.missing]
    read_extents(store, clock, wanted, check_interrupted=check_interrupted)
    for target in targets:
        target.install()
    return targets


def verify(store: ObjectStore, clock: Clock, manifest: Manifest, *, progress: Callable[[int], None]) -> None:
    """Read everything that *manifest* refers to and compare it with the digests, without keeping it.

    Args:
        store: Where the packs are.
        clock: Source of threads.
        manifest: The manifest.
        progress: Called with the number of bytes that have been verified since the last call.

    Raises:
        CorruptCheckpointError: An extent is missing or wrong.
        RetryableError: The store could not be read.
    """
    verifiers = [FileVerifier(entry, progress) for entry in manifest.files]
    wanted = [(verifier, placed) for verifier in verifiers for placed in stored_extents(verifier.entry)]
    read_extents(store, clock, wanted, check_interrupted=lambda: None)
    for verifier in verifiers:
        verifier.conclude()
