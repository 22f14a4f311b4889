"""Collection removes what the manifest before named, also where the new one uses it again."""

from simulation.checker import ALL_THERE

from lifecycle.collect import named_by, remove
from lifecycle.uploader import Uploader

FOUND_AS = (ALL_THERE,)


def install() -> None:
    def _collect(self, dropped):
        remove(self._store, named_by(self._keys, (*dropped, *self._kept[1:])), epoch=self._epoch)

    Uploader._collect = _collect
