"""Garbage collection: remove the manifests and packs that no kept manifest refers to.

It is called by the owner, after a commit that is known to have landed, and removes only keys of its own epoch and of
older ones. A later owner starts from a manifest that this one keeps. Everything that the later owner reuses is
therefore kept here as well, however late the removal is carried out.
"""

from collections.abc import Iterable

from lifecycle.checkpoint.chunks import BaseCheckpoint
from lifecycle.key_layout import JobKeys, epoch_of
from lifecycle.ports.store import ObjectStore


def referenced_keys(checkpoints: Iterable[BaseCheckpoint]) -> set[str]:
    """Return the keys of the manifests of *checkpoints*, and of every pack that they refer to."""
    return {key for checkpoint in checkpoints for key in (checkpoint.key, *checkpoint.manifest.packs)}


def sweep(store: ObjectStore, keys: JobKeys, *, epoch: int, keep: set[str]) -> int:
    """List the job's manifests and packs, and remove those that are not in *keep*. Safe to repeat.

    Args:
        store: Where they are.
        keys: Keys of the job.
        epoch: The owner's epoch; keys of later ones are never removed.
        keep: Keys to keep.

    Returns:
        Number of keys that were removed.

    Raises:
        RetryableError: Some may remain; the next sweep finds them.
    """
    stored = [listed.key for prefix in (keys.manifests, keys.packs) for listed in store.list(prefix)]
    return remove(store, (key for key in stored if key not in keep), epoch=epoch)


def remove(store: ObjectStore, candidates: Iterable[str], *, epoch: int) -> int:
    """Remove those of *candidates* that were written by *epoch* or an older one. Safe to repeat.

    Returns:
        Number of keys that were removed.

    Raises:
        RetryableError: Some may remain; the next sweep finds them.
    """
    doomed = [key for key in candidates if (written_by := epoch_of(key)) is not None and written_by <= epoch]
    if doomed:
        store.delete(doomed)
    return len(doomed)
