"""The attempt hears of an upload before it is made, and commits objects that do not exist yet."""

from typing import Any, cast

from simulation.checker import ALL_THERE
from simulation.mutants import replace

from lifecycle.attempt.events import Uploaded
from lifecycle.attempt.uploader import Uploader
from lifecycle.checkpoint.snapshot import Snapshot

FOUND_AS = (ALL_THERE,)


class Later:
    """A store that only records the puts."""

    def __init__(self) -> None:
        self.puts: list[tuple[Any, ...]] = []

    def put(self, *args: Any) -> None:
        self.puts.append(args)


def install() -> None:
    def _upload(self: Uploader, snapshot: Snapshot) -> None:
        writer, later = cast("Any", self._writer), Later()
        store, writer.store = writer.store, later
        saved = writer.upload(
            snapshot, self._kept[0] if self._kept else None, check_interrupted=self._check_interrupted
        )
        writer.store = store
        self._uncommitted = (snapshot, saved) if saved else None
        self._events.put(Uploaded(snapshot, saved))
        for args in later.puts:
            store.put(*args)

    replace(Uploader, "_upload", _upload)
