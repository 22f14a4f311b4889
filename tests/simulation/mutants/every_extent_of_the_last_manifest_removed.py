"""Garbage collection removes all objects of the previous manifest, even those that the new one uses."""

from typing import Any

from simulation.checker import ALL_THERE
from simulation.mutants import replace

from lifecycle.attempt.uploader import Uploader
from lifecycle.checkpoint.gc import referenced_keys, remove

FOUND_AS = (ALL_THERE,)


def install() -> None:
    def _collect(self: Uploader, dropped: Any) -> None:
        writer = self._writer
        doomed = referenced_keys((*dropped, *self._kept[1:]))
        remove(writer.store, doomed, epoch=writer.epoch)

    replace(Uploader, "_collect", _collect)
