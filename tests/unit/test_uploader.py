"""The uploader: one upload after the other, what failed ones leave being used once, or removed, and never both."""

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
from lifecycle.checkpoint.capture import capture_files, scan
from lifecycle.checkpoint.gc import referenced_keys
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.errors import RetryableError


class Uploading:
    """An attempt's uploader. Its store refuses manifests while *full*, and does not answer until *open*."""

    def __init__(self, checkpoints: CheckpointFixture) -> None:
        clock = SystemClock()
        self.checkpoints, self.full, self.wrong = checkpoints, False, ""
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()
        self._events = clock.mailbox()
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
        """Replace the file by *content*, and submit that."""
        self.checkpoints.write("a", content)
        self.checkpoints.seq += 1
        seen, workload = scan(self.checkpoints.dirs, self.checkpoints.workload), self.checkpoints.workload
        taken = capture_files(
            seen,
            workload,
            seq=self.checkpoints.seq,
            step=self.checkpoints.seq,
            dirs=self.checkpoints.dirs,
            in_place=set(),
        )
        assert taken is not None
        self.uploader.submit(taken)
        return taken

    def hear(self) -> Event:
        """What the uploader tells next."""
        event = self._events.get(30)
        assert event is not None
        return event

    def upload(self, content: bytes) -> Event:
        """Replace the file by *content*, upload it, and tell what became of that."""
        self.submit(content)
        return self.hear()

    def fail(self, content: bytes) -> None:
        """Upload *content*, whose packs arrive, and whose manifest does not."""
        self.full = True
        assert isinstance(self.upload(content), UploadFailed)
        self.full = False

    def commit(self, content: bytes) -> Uploaded:
        """Upload *content*, and let its manifest get into the record."""
        uploaded = self.upload(content)
        assert isinstance(uploaded, Uploaded)
        self.uploader.committed()
        return uploaded

    def calls(self, name: str) -> int:
        """How many calls of the store there were of that name."""
        return sum(called == name for called, _ in self._store.calls)

    def stored(self) -> set[str]:
        """The keys of all manifests and packs, once nothing more is under way."""
        assert self.uploader.stop(timeout_s=30)
        return {listed.key for listed in self.checkpoints.memory.list("j/")}


@pytest.fixture
def uploading(tmp_path: Path) -> Iterator[Uploading]:
    found = Uploading(CheckpointFixture(tmp_path))
    yield found
    found.open.set()
    found.uploader.stop(timeout_s=30)


def test_what_a_failed_upload_left_is_not_named_once_it_is_removed(uploading: Uploading) -> None:
    """A commit removes what it does not name; the snapshot after it finds nothing of that, and sends it again."""
    lost, other = uploading.checkpoints.noise(3000), uploading.checkpoints.noise(3000)
    uploading.fail(lost)
    uploading.commit(other)
    committed = uploading.commit(lost)
    assert committed.saved is not None
    assert set(committed.saved.manifest.packs) <= uploading.stored()
    uploading.checkpoints.same(committed.saved, uploading.checkpoints.root / "back")


def test_what_a_failed_upload_left_is_removed_by_the_next_commit(uploading: Uploading) -> None:
    """Also late in an attempt, when a commit removes only what the manifest before the last named."""
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
    """A commit knows what the one before it dropped; only the first looks for what earlier attempts left."""
    for _ in range(2):
        uploading.commit(uploading.checkpoints.noise(100))
    listed = uploading.calls("list")
    for _ in range(3):
        uploading.commit(uploading.checkpoints.noise(100))
    uploading.stored()
    assert uploading.calls("list") == listed
    assert uploading.calls("delete") == 3  # at the third, the fourth and the fifth


def test_what_a_failed_upload_left_is_used_by_the_next(uploading: Uploading) -> None:
    """And is not removed by the commit that names it."""
    content = uploading.checkpoints.noise(3000)
    uploading.fail(content)
    before = {listed.key for listed in uploading.checkpoints.memory.list("j/packs/")}
    committed = uploading.commit(content)
    assert committed.saved is not None
    assert set(committed.saved.manifest.packs) == before
    assert before <= uploading.stored()


def test_what_the_last_commit_holds_is_not_sent_again(uploading: Uploading) -> None:
    """A commit of the same and a little more sends the little."""
    content = uploading.checkpoints.noise(3000)
    first, more = uploading.commit(content), uploading.commit(content + uploading.checkpoints.noise(100))
    assert first.saved is not None
    assert more.saved is not None
    old, packs = first.saved.manifest.packs, more.saved.manifest.packs
    assert old.keys() < packs.keys()
    assert sum(size for pack, size in packs.items() if pack not in old) < 200


def test_the_disk_keeps_the_last_committed_snapshot(uploading: Uploading) -> None:
    """The next attempt on this node need not fetch it; the one before is gone."""
    first, second = (uploading.commit(uploading.checkpoints.noise(100)) for _ in range(2))
    assert uploading.uploader.stop(timeout_s=30)
    assert not first.snapshot.directory.exists()
    assert second.snapshot.directory.exists()


def test_a_newer_snapshot_replaces_the_one_that_waits(uploading: Uploading) -> None:
    """It is never uploaded, and its files are gone from the disk; those of the one under way are not."""
    uploading.open.clear()
    under_way = uploading.submit(uploading.checkpoints.noise(100))
    assert uploading.reached.wait(30)
    waiting, newest = (uploading.submit(uploading.checkpoints.noise(100)) for _ in range(2))
    uploading.open.set()
    for expected in (under_way, newest):
        told = uploading.hear()
        assert isinstance(told, Uploaded)
        assert told.snapshot is expected
        assert expected.directory.exists()
        uploading.uploader.committed()
    assert not waiting.directory.exists()


def test_a_stopped_uploader_ends_what_it_is_uploading(uploading: Uploading) -> None:
    """An attempt that is over waits for no upload that nobody will commit: what is left of it is not sent."""
    uploading.open.clear()
    uploading.submit(uploading.checkpoints.noise(100_000))
    assert uploading.reached.wait(30)
    assert not uploading.uploader.stop(timeout_s=0)
    uploading.open.set()
    stored = uploading.stored()
    assert not any("/checkpoints/" in key for key in stored)
    assert len(stored) < 100_000 / uploading.checkpoints.chunk_sizes.pack_bytes


def test_an_uploader_does_not_die_in_silence(uploading: Uploading) -> None:
    """What nobody foresaw reaches the attempt, which would wait for it forever."""
    uploading.wrong = "on purpose"
    died = uploading.upload(b"x")
    assert isinstance(died, ThreadDied)
    assert str(died.error) == "on purpose"
