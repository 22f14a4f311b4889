"""Collection removes what the manifest before named, also where the new one uses it again."""

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
