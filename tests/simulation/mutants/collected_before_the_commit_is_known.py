"""Garbage collection runs after an upload, before the record points at the new manifest."""

from simulation.checker import ALL_THERE, FENCE
from simulation.mutants import replace

from lifecycle.attempt.uploader import Uploader
from lifecycle.checkpoint.gc import referenced_keys
from lifecycle.checkpoint.snapshot import Snapshot

FOUND_AS = (ALL_THERE, FENCE)


def install() -> None:
    upload = Uploader._upload

    def _upload(self: Uploader, snapshot: Snapshot) -> None:
        upload(self, snapshot)
        if self._uncommitted:
            _, saved = self._uncommitted
            self._kept = (saved.base,)
            self._objects[saved.base.key] = referenced_keys(self._kept)
            self._collect()

    replace(Uploader, "_upload", _upload)
