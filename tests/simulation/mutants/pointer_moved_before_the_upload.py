"""The attempt is told of an upload before it is made, and commits what is not there yet."""

from simulation.checker import ALL_THERE

from lifecycle.checkpoint import upload
from lifecycle.events import Uploaded
from lifecycle.uploader import Uploader

FOUND_AS = (ALL_THERE,)


class Later:
    """Takes notes of what is to be put."""

    def __init__(self):
        self.puts = []

    def put(self, *args):
        self.puts.append(("put", args))

    def put_file(self, *args):
        self.puts.append(("put_file", args))


def install() -> None:
    def _upload(self, snapshot):
        later = Later()
        last = self._kept[0] if self._kept else None
        saved = upload(later, self._keys, epoch=self._epoch, snapshot=snapshot, last=last, between=self._between)
        self._unresolved = snapshot, saved
        self._events.put(Uploaded(snapshot, saved))
        for method, args in later.puts:
            getattr(self._store, method)(*args)

    Uploader._upload = _upload
