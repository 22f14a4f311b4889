"""Garbage collection removes all objects of the previous manifest, even those that the new one uses."""

from simulation.checker import ALL_THERE

from lifecycle.attempt.uploader import Uploader
from lifecycle.checkpoint.gc import referenced_keys, remove

FOUND_AS = (ALL_THERE,)


def install() -> None:
    def _collect(self, dropped):
        writer = self._writer
        doomed = referenced_keys((*dropped, *self._kept[1:]))
        remove(writer.store, doomed, epoch=writer.epoch)

    Uploader._collect = _collect
