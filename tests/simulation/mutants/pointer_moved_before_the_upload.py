"""The attempt hears of an upload before it is made, and commits objects that do not exist yet."""

from simulation.checker import ALL_THERE

from lifecycle.attempt.events import Uploaded
from lifecycle.attempt.uploader import Uploader

FOUND_AS = (ALL_THERE,)


class Later:
    """A store that only records the puts."""

    def __init__(self):
        self.puts = []

    def put(self, *args):
        self.puts.append(args)


def install() -> None:
    def _upload(self, snapshot):
        writer, later = self._writer, Later()
        store, writer.store = writer.store, later
        saved = writer.upload(
            snapshot, self._kept[0] if self._kept else None, check_interrupted=self._check_interrupted
        )
        writer.store = store
        self._uncommitted = (snapshot, saved) if saved else None
        self._events.put(Uploaded(snapshot, saved))
        for args in later.puts:
            store.put(*args)

    Uploader._upload = _upload
