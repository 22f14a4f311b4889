"""Garbage collection runs after an upload, before the record points at the new manifest."""

from simulation.checker import ALL_THERE, FENCE

from lifecycle.attempt.uploader import Uploader

FOUND_AS = (ALL_THERE, FENCE)


def install() -> None:
    upload = Uploader._upload

    def _upload(self, snapshot):
        upload(self, snapshot)
        if self._uncommitted:
            _, saved = self._uncommitted
            dropped, self._kept = self._kept, (saved.base,)
            self._collect(dropped)

    Uploader._upload = _upload
