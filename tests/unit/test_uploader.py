"""The uploader: what failed uploads leave in the bucket is used once, or removed, and never both."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.meddling import Meddling
from support.shelf import Counting, Shelf

from adapters.clock import SystemClock
from lifecycle.collect import named_by
from lifecycle.errors import RetryableError
from lifecycle.events import Event, Uploaded, UploadFailed
from lifecycle.journal import Journal
from lifecycle.observers import Observers
from lifecycle.snapshot import look, take_picture
from lifecycle.uploader import Uploader


class Uploading:
    """An attempt's uploader on a shelf, and a store that takes no manifests while it is *full*."""

    def __init__(self, shelf: Shelf) -> None:
        clock = SystemClock()
        self.shelf, self.full = shelf, False
        self._events = clock.mailbox()
        shelf.engine.store = Counting(Meddling(shelf.memory, before=self._refuse))
        self.uploader = Uploader(
            shelf.engine,
            clock,
            kept=(),
            check=lambda _: None,
            events=self._events,
            journal=Journal(clock, Observers(), epoch=1, node="n"),
            after_commit=lambda _: None,
        )

    def _refuse(self, name: str, *args: object, **_: object) -> None:
        if self.full and name == "put" and "/checkpoints/" in str(args[0]):
            raise RetryableError("503, on purpose")

    def upload(self, content: bytes) -> Event:
        """Replace the file by *content*, upload it, and tell what became of that."""
        self.shelf.write("a", content)
        self.shelf.seq += 1
        seen, workload = look(self.shelf.dirs, self.shelf.workload), self.shelf.workload
        taken = take_picture(
            seen, workload, seq=self.shelf.seq, step=self.shelf.seq, dirs=self.shelf.dirs, in_place=set()
        )
        assert taken is not None
        self.uploader.submit(taken)
        event = self._events.get(30)
        assert event is not None
        return event

    def fail(self, content: bytes) -> None:
        """Upload *content*, whose packs arrive, and whose manifest does not."""
        self.full = True
        assert isinstance(self.upload(content), UploadFailed)
        self.full = False

    def commit(self, content: bytes) -> Uploaded:
        """Upload *content*, and let its manifest get into the record."""
        uploaded = self.upload(content)
        assert isinstance(uploaded, Uploaded)
        self.uploader.resolve(committed=True)
        return uploaded

    def stored(self) -> set[str]:
        """The keys of all manifests and packs, once nothing more is under way."""
        assert self.uploader.stop(timeout_s=30)
        return {listed.key for listed in self.shelf.memory.list("j/")}


@pytest.fixture
def uploading(tmp_path: Path) -> Iterator[Uploading]:
    found = Uploading(Shelf(tmp_path))
    yield found
    found.uploader.stop(timeout_s=30)


def test_what_a_failed_upload_left_is_not_named_once_it_is_removed(uploading: Uploading) -> None:
    """A commit removes what it does not name; the snapshot after it finds nothing of that, and sends it again."""
    lost, other = uploading.shelf.noise(3000), uploading.shelf.noise(3000)
    uploading.fail(lost)
    uploading.commit(other)
    committed = uploading.commit(lost)
    assert committed.saved is not None
    assert set(committed.saved.manifest.packs) <= uploading.stored()
    uploading.shelf.same(committed.saved, uploading.shelf.root / "back")


def test_what_a_failed_upload_left_is_removed_by_the_next_commit(uploading: Uploading) -> None:
    """Also late in an attempt, when a commit removes only what the manifest before the last named."""
    first, second = uploading.commit(uploading.shelf.noise(500)), uploading.commit(uploading.shelf.noise(500))
    uploading.fail(uploading.shelf.noise(3000))
    third = uploading.commit(uploading.shelf.noise(500))
    kept = [each.saved.known for each in (second, third) if each.saved]
    assert uploading.stored() == named_by(kept)
    assert first.saved is not None
    assert not uploading.stored() & named_by([first.saved.known])


def test_what_a_failed_upload_left_is_used_by_the_next(uploading: Uploading) -> None:
    """And is not removed by the commit that names it."""
    content = uploading.shelf.noise(3000)
    uploading.fail(content)
    before = {listed.key for listed in uploading.shelf.memory.list("j/packs/")}
    committed = uploading.commit(content)
    assert committed.saved is not None
    assert set(committed.saved.manifest.packs) == before
    assert before <= uploading.stored()
