"""Garbage collection removes all objects of the previous manifest, even those that the new one uses."""

from simulation.checker import ALL_THERE
from simulation.mutants import replace

from lifecycle.attempt.uploader import Uploader
from lifecycle.checkpoint.gc import remove

FOUND_AS = (ALL_THERE,)


def install() -> None:
    def _collect(self: Uploader) -> None:
        writer, newest = self._writer, self._kept[0].key
        doomed = {key for manifest, keys in self._objects.items() if manifest != newest for key in keys}
        remove(writer.store, doomed, epoch=writer.epoch)

    replace(Uploader, "_collect", _collect)
