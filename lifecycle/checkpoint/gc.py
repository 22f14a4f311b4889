"""Collection: removing what no kept manifest names.

Called by the owner, after a commit that is proven, for keys of its own epoch and older ones. A later owner started from
a manifest that this one keeps, so whatever it uses again is kept here too, however late this call is carried out.
"""

from collections.abc import Iterable

from lifecycle.checkpoint.chunks import BaseCheckpoint
from lifecycle.key_layout import JobKeys, epoch_of
from lifecycle.ports.store import ObjectStore


def referenced_keys(manifests: Iterable[BaseCheckpoint]) -> set[str]:
    """The keys of *manifests* themselves and of every pack that they name."""
    return {key for base in manifests for key in (base.key, *base.manifest.packs)}


def sweep(store: ObjectStore, keys: JobKeys, *, epoch: int, keep: set[str]) -> int:
    """List all that the job stores, and remove what is not in *keep* and of no later epoch than *epoch*.

    Returns:
        How many keys were removed. Safe to repeat.

    Raises:
        RetryableError: Some may be left; the next sweep finds them.
    """
    stored = [listed.key for prefix in (keys.manifests, keys.packs) for listed in store.list(prefix)]
    return remove(store, (key for key in stored if key not in keep), epoch=epoch)


def remove(store: ObjectStore, candidates: Iterable[str], *, epoch: int) -> int:
    """Remove those of *candidates* that an epoch up to *epoch* wrote, and return how many. Safe to repeat."""
    doomed = [key for key in candidates if (written_by := epoch_of(key)) is not None and written_by <= epoch]
    if doomed:
        store.delete(doomed)
    return len(doomed)
