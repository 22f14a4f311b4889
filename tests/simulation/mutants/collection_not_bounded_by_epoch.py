"""Garbage collection removes all unreferenced objects, a later owner's included."""

from collections.abc import Iterable

from simulation.checker import ALL_THERE, FENCE
from simulation.mutants import replace

import lifecycle.attempt.uploader
import lifecycle.checkpoint.gc
from lifecycle.key_layout import epoch_of
from lifecycle.ports.store import ObjectStore

FOUND_AS = (FENCE, ALL_THERE)


def install() -> None:
    def remove(store: ObjectStore, candidates: Iterable[str], *, epoch: int) -> int:
        doomed = [key for key in candidates if epoch_of(key) is not None]
        if doomed:
            store.delete(doomed)
        return len(doomed)

    for module in (lifecycle.checkpoint.gc, lifecycle.attempt.uploader):
        replace(module, "remove", remove)
