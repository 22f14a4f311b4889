"""The uploader: one upload at a time; packs of failed uploads are either used again or removed."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checkpoint_fixture import CheckpointFixture, CountingStore
from support.fault_injection import FaultInjection

from adapters.local.clock import SystemClock
from lifecycle.attempt.event_log import EventLog
from lifecycle.attempt.events import Event, ThreadDied, Uploaded, UploadFailed
from lifecycle.attempt.observers import Observers
from lifecycle.attempt.uploader import Uploader
from lifecycle.checkpoint.capture import capture_files
from lifecycle.checkpoint.gc import referenced_keys
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.survey import scan
from lifecycle.errors import RetryableError
from lifecycle.ports.clock import Mailbox


class Uploading:
    """An attempt's uploader with a store that refuses manifests while *full*, and blocks until *open*."""

    def __init__(self, checkpoints: CheckpointFixture) -> None:
        clock = SystemClock()
        self.checkpoints, self.full, self.wrong = checkpoints, False, ""
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()
        self._events: Mailbox[Event] = clock.mailbox()
        self._store = checkpoints.writer.store = CountingStore(FaultInjection(checkpoints.memory, before=self._refuse))
        self.uploader = Uploader(
            checkpoints.writer,
            clock,
            kept=(),
            check=self._check,
            events=self._events,
            event_log=EventLog(clock, Observers(), epoch=1, node="n"),
            after_commit=lambda _: None,
        )

    def _check(self, _: Snapshot) -> str | None:
        if self.wrong:
            raise RuntimeError(self.wrong)
        return None

    def _refuse(self, name: str, *args: object, **_: object) -> None:
        self.reached.set()
        assert self.open.wait(30)
        if self.full and name == "put" and "/checkpoints/" in str(args[0]):
            raise RetryableError("503, on purpose")

    def submit(self, content: bytes) -> Snapshot:
        """Replace the file by *content*, capture it, and submit the snapshot."""
        self.checkpoints.write("a", content)
        self.checkpoints.seq += 1
        seen, workload = scan(self.checkpoints.dirs, self.checkpoints.workload), self.checkpoints.workload
        taken = capture_files(
            seen,
            workload,
            Quality.QUIET,
            seq=self.checkpoints.seq,
            step=self.checkpoints.seq,
            dirs=self.checkpoints.dirs,
            in_place=set(),
        )
        assert taken is not None
        self.uploader.submit(taken)
        return taken

    def next_event(self) -> Event:
        """Return the uploader's next event."""
        event = self._events.get(30)
        assert event is not None
        return event

    def upload(self, content: bytes) -> Event:
        """Replace the file by *content*, upload it, and return the event."""
        self.submit(content)
        return self.next_event()

    def fail(self, content: bytes) -> None:
        """Upload *content* so that its packs arrive and its manifest does not."""
        self.full = True
        assert isinstance(self.upload(content), UploadFailed)
        self.full = False

    def commit(self, content: bytes) -> Uploaded:
        """Upload *content*, and report its manifest as committed."""
        uploaded = self.upload(content)
        assert isinstance(uploaded, Uploaded)
        self.uploader.committed()
        return uploaded

    def calls(self, name: str) -> int:
        """Return the number of store calls with that name."""
        return sum(called == name for called, _ in self._store.calls)

    def stored(self) -> set[str]:
        """Stop the uploader, and return the keys of all manifests and packs."""
        assert self.uploader.stop(timeout_s=30)
        return {listed.key for listed in self.checkpoints.memory.list("j/")}


@pytest.fixture
def uploading(tmp_path: Path) -> Iterator[Uploading]:
    uploading = Uploading(CheckpointFixture(tmp_path))
    yield uploading
    uploading.open.set()
    uploading.uploader.stop(timeout_s=30)


def test_removed_packs_of_a_failed_upload_are_not_referenced(uploading: Uploading) -> None:
    """A commit removes unreferenced packs of a failed upload, and the next snapshot sends their chunks again."""
    lost, other = uploading.checkpoints.noise(3000), uploading.checkpoints.noise(3000)
    uploading.fail(lost)
    uploading.commit(other)
    committed = uploading.commit(lost)
    assert committed.saved is not None
    assert set(committed.saved.manifest.packs) <= uploading.stored()
    uploading.checkpoints.same(committed.saved, uploading.checkpoints.root / "back")


def test_packs_of_a_failed_upload_are_removed_by_the_next_commit(uploading: Uploading) -> None:
    """Unreferenced packs of a failed upload are removed by the next commit, also late in an attempt."""
    first, second = (
        uploading.commit(uploading.checkpoints.noise(500)),
        uploading.commit(uploading.checkpoints.noise(500)),
    )
    uploading.fail(uploading.checkpoints.noise(3000))
    third = uploading.commit(uploading.checkpoints.noise(500))
    kept = [each.saved.base for each in (second, third) if each.saved]
    assert uploading.stored() == referenced_keys(kept)
    assert first.saved is not None
    assert not uploading.stored() & referenced_keys([first.saved.base])


def test_the_bucket_is_listed_once(uploading: Uploading) -> None:
    """The first commit lists the bucket; later ones know from the previous manifest which keys to remove."""
    for _ in range(2):
        uploading.commit(uploading.checkpoints.noise(100))
    listed = uploading.calls("list")
    for _ in range(3):
        uploading.commit(uploading.checkpoints.noise(100))
    uploading.stored()
    assert uploading.calls("list") == listed
    assert uploading.calls("delete") == 3  # at the third, the fourth and the fifth


def test_packs_of_a_failed_upload_are_used_by_the_next(uploading: Uploading) -> None:
    """Packs of a failed upload are referenced by the next snapshot with that content, and then not removed."""
    content = uploading.checkpoints.noise(3000)
    uploading.fail(content)
    before = {listed.key for listed in uploading.checkpoints.memory.list("j/packs/")}
    committed = uploading.commit(content)
    assert committed.saved is not None
    assert set(committed.saved.manifest.packs) == before
    assert before <= uploading.stored()


def test_committed_chunks_are_not_sent_again(uploading: Uploading) -> None:
    """A snapshot with a little more content sends only the difference."""
    content = uploading.checkpoints.noise(3000)
    first, more = uploading.commit(content), uploading.commit(content + uploading.checkpoints.noise(100))
    assert first.saved is not None
    assert more.saved is not None
    old, packs = first.saved.manifest.packs, more.saved.manifest.packs
    assert old.keys() < packs.keys()
    assert sum(size for pack, size in packs.items() if pack not in old) < 200


def test_the_disk_keeps_the_last_committed_snapshot(uploading: Uploading) -> None:
    """The last committed snapshot stays on disk for the next attempt on this node; the one before is removed."""
    first, second = (uploading.commit(uploading.checkpoints.noise(100)) for _ in range(2))
    assert uploading.uploader.stop(timeout_s=30)
    assert not first.snapshot.directory.exists()
    assert second.snapshot.directory.exists()


def test_a_newer_snapshot_replaces_the_waiting_one(uploading: Uploading) -> None:
    """A waiting snapshot that is replaced is never uploaded and is removed from disk; one being uploaded is not."""
    uploading.open.clear()
    under_way = uploading.submit(uploading.checkpoints.noise(100))
    assert uploading.reached.wait(30)
    waiting, newest = (uploading.submit(uploading.checkpoints.noise(100)) for _ in range(2))
    uploading.open.set()
    for expected in (under_way, newest):
        event = uploading.next_event()
        assert isinstance(event, Uploaded)
        assert event.snapshot is expected
        assert expected.directory.exists()
        uploading.uploader.committed()
    assert not waiting.directory.exists()


def test_a_stopped_uploader_aborts_its_upload(uploading: Uploading) -> None:
    """Stopping the uploader aborts an upload, because the rest would never be committed."""
    uploading.open.clear()
    uploading.submit(uploading.checkpoints.noise(100_000))
    assert uploading.reached.wait(30)
    assert not uploading.uploader.stop(timeout_s=0)
    uploading.open.set()
    stored = uploading.stored()
    assert not any("/checkpoints/" in key for key in stored)
    assert len(stored) < 100_000 / uploading.checkpoints.chunk_sizes.pack_bytes


def test_a_crashed_uploader_reports_its_error(uploading: Uploading) -> None:
    """An unexpected error reaches the attempt, which would otherwise wait forever."""
    uploading.wrong = "on purpose"
    died = uploading.upload(b"x")
    assert isinstance(died, ThreadDied)
    assert str(died.error) == "on purpose"
