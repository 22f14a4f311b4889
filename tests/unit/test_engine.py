"""Checkpoints are uploaded by their changes, restored byte for byte, and verified."""

from pathlib import Path

import pytest
from attrs import evolve
from support.checkpoint_fixture import SMALL, CheckpointFixture, files, saved

from adapters.local.clock import SystemClock
from adapters.memory.clock import ManualClock
from lifecycle.checkpoint.capture import capture_files
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.manifest_codec import encode_manifest
from lifecycle.checkpoint.restore import fill, verify
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.survey import scan
from lifecycle.concurrency import RateLimiter
from lifecycle.errors import CorruptCheckpointError, LeaseLostError, RetryableError, TornSnapshotError
from lifecycle.ports.store import Absent, Body, Range, Version


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFixture:
    return CheckpointFixture(tmp_path)


def packs(checkpoints: CheckpointFixture) -> list[str]:
    return [key for name, key in checkpoints.store.calls if name == "put" and "/packs/" in key]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025, 4096, 4097, 9999])
def test_files_come_back_byte_for_byte(checkpoints: CheckpointFixture, tmp_path: Path, size: int) -> None:
    """Files of every size around the limits of chunks, reads, frames and packs are restored, with folders and modes."""
    checkpoints.write("a", checkpoints.noise(size))
    checkpoints.write("folder/b", b"compress me " * size).chmod(0o600)
    checkpoints.write("c", b"")
    checkpoints.same(saved(checkpoints), tmp_path / "back")


@pytest.mark.parametrize("names", [("state", ".state.part"), ("a" + "n" * 254, "b" + "n" * 254)])
def test_files_come_back_whatever_they_are_called(
    checkpoints: CheckpointFixture, tmp_path: Path, names: tuple[str, str]
) -> None:
    """The temporary name of a file that is being restored differs from every other name, however long."""
    for name in names:
        checkpoints.write(name, checkpoints.noise(100))
    checkpoints.same(saved(checkpoints), tmp_path / "back")


def test_a_chunk_that_is_stored_is_not_sent(checkpoints: CheckpointFixture) -> None:
    """If one chunk is changed in place, one chunk is sent."""
    content = bytearray(checkpoints.noise(4000))
    checkpoints.write("a", bytes(content))
    first = saved(checkpoints)
    content[1600] ^= 1
    checkpoints.write("a", bytes(content))
    second = saved(checkpoints)
    assert checkpoints.store.sent == 16 + len(encode_manifest(second.manifest))
    assert len(packs(checkpoints)) == 1
    assert set(first.manifest.packs) < set(second.manifest.packs)


def test_what_is_appended_is_sent_alone(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Appending sends the new bytes, and the last chunk again if it was not full."""
    content = checkpoints.noise(3999)
    checkpoints.write("a", content)
    saved(checkpoints)
    checkpoints.write("a", content + checkpoints.noise(161))
    second = saved(checkpoints)
    assert checkpoints.store.sent - len(encode_manifest(second.manifest)) == 161 + 3999 % 16
    checkpoints.same(second, tmp_path / "back")


def test_nothing_new_asks_nothing_of_the_store(checkpoints: CheckpointFixture) -> None:
    """An unchanged state makes no call at all. A result always gets a manifest of its own."""
    checkpoints.write("a", checkpoints.noise(3000))
    saved(checkpoints)
    checkpoints.write("a", (checkpoints.dirs.checkpoint / "a").read_bytes())
    assert checkpoints.save() is None
    assert checkpoints.save(is_last=True) is None
    assert checkpoints.store.calls == []
    assert checkpoints.save(is_result=True) is not None


def test_a_file_is_known_under_another_name_and_at_another_place(
    checkpoints: CheckpointFixture, tmp_path: Path
) -> None:
    """Content is reused when a file is renamed or its content moves to another offset."""
    content = checkpoints.noise(2048)
    checkpoints.write("step-1", content)
    saved(checkpoints)
    (checkpoints.dirs.checkpoint / "step-1").unlink()
    checkpoints.write("step-2", checkpoints.noise(160) + content)
    second = saved(checkpoints)
    assert checkpoints.store.sent - len(encode_manifest(second.manifest)) == 160
    checkpoints.same(second, tmp_path / "back")


def test_many_small_files_are_few_objects(checkpoints: CheckpointFixture) -> None:
    """The number of requests follows the bytes, not the files."""
    for number in range(100):
        checkpoints.write(f"{number}", checkpoints.noise(20))
    done = saved(checkpoints)
    assert len(packs(checkpoints)) == 2
    assert len(done.manifest.files) == 100


def test_what_pays_is_compressed_and_what_does_not_is_not(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """A log is stored compressed; random bytes are stored as they are."""
    checkpoints.write("log", b"step done\n" * 1000)
    checkpoints.write("noise", checkpoints.noise(3000))
    first = saved(checkpoints)
    assert checkpoints.store.sent - len(encode_manifest(first.manifest)) < 3000 + 5000
    log, noise = first.manifest.files
    assert all(extent.frame_length for extent in log.extents[:-1])
    assert not any(extent.frame_length for extent in noise.extents)
    checkpoints.write("log", b"step done\n" * 500 + b"something else entirely" + b"step done\n" * 500)
    checkpoints.same(saved(checkpoints), tmp_path / "back")


def test_a_growing_output_goes_with_the_checkpoint(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """A growing file is saved up to its length at the capture; later lines belong to the next checkpoint."""
    checkpoints.write("a", b"state 1")
    log = checkpoints.dirs.output / "run.log"
    log.write_bytes(checkpoints.noise(500))
    (checkpoints.dirs.output / "not-growing").write_bytes(b"x")
    first = saved(checkpoints)
    with log.open("ab") as file:
        file.write(checkpoints.noise(160))
    checkpoints.write("a", b"state 2")
    second = saved(checkpoints)
    assert checkpoints.store.sent - len(encode_manifest(second.manifest)) == 160 + 500 % 16 + len("state 2")
    checkpoints.restore(first, tmp_path / "first")
    assert (tmp_path / "first/output/run.log").read_bytes() == log.read_bytes()[:500]
    assert not (tmp_path / "first/output/not-growing").exists()
    checkpoints.restore(second, tmp_path / "second")
    assert (tmp_path / "second/output/run.log").read_bytes() == log.read_bytes()


def test_stored_bytes_are_at_most_twice_the_live_ones(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """However often small parts change: sparse packs are rewritten, from the node's own disk."""
    content = bytearray(checkpoints.noise(4000))
    done, sent = None, 0
    for _ in range(60):
        for _ in range(5):
            content[checkpoints.rng.randrange(len(content))] ^= 255
        checkpoints.write("a", bytes(content))
        done = saved(checkpoints)
        sent += checkpoints.store.sent - len(encode_manifest(done.manifest))
        assert sum(done.manifest.packs.values()) <= 2 * 4000
        assert not any(name.startswith("get") for name, _ in checkpoints.store.calls)
    assert done is not None
    assert sent < 4000 + 60 * 5 * 16 * 3
    checkpoints.same(done, tmp_path / "back")


def test_an_upload_cut_short_goes_on_where_it_was(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Packs that arrived before the store failed are reused, even by another snapshot."""
    content = checkpoints.noise(8192)
    checkpoints.write("a", content)
    put, taken = checkpoints.memory.put, list[int]()

    def failing(key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        if len(taken) == 5:
            raise RetryableError("503, on purpose")
        taken.append(len(body))
        return put(key, body, expected=expected)

    checkpoints.memory.put = failing  # type: ignore[method-assign]
    with pytest.raises(RetryableError):
        checkpoints.save()
    checkpoints.memory.put = put  # type: ignore[method-assign]
    checkpoints.write("a", content + b"and a little more")
    done = saved(checkpoints)
    assert checkpoints.store.sent - len(encode_manifest(done.manifest)) == 8192 + len(b"and a little more") - sum(taken)
    checkpoints.same(done, tmp_path / "back")
    keys = [key for name, key in checkpoints.store.calls if name == "put"]
    assert len(keys) == len(set(keys))


def test_what_a_failed_upload_has_left_is_not_used_once_it_is_collected(
    checkpoints: CheckpointFixture, tmp_path: Path
) -> None:
    """A commit removes objects that no manifest refers to, so a later snapshot sends their content again."""
    content = checkpoints.noise(2048)
    checkpoints.write("a", content)
    with pytest.raises(RetryableError):
        _save_with_failing_manifest(checkpoints)
    checkpoints.write("a", b"another")
    saved(checkpoints)
    checkpoints.memory.delete(
        [listed.key for listed in checkpoints.memory.list("j/packs/") if listed.size_bytes >= 1024]
    )
    checkpoints.write("a", content)
    checkpoints.same(saved(checkpoints), tmp_path / "back")


def _save_with_failing_manifest(checkpoints: CheckpointFixture) -> None:
    put = checkpoints.memory.put

    def failing(key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        if "/checkpoints/" in key:
            raise RetryableError("503, on purpose")
        return put(key, body, expected=expected)

    checkpoints.memory.put = failing  # type: ignore[method-assign]
    try:
        checkpoints.save()
    finally:
        checkpoints.memory.put = put  # type: ignore[method-assign]


def test_an_attempt_that_is_over_uploads_no_more(checkpoints: CheckpointFixture) -> None:
    """The check for interruptions is made before each read, also in the middle of a file."""
    checkpoints.write("a", checkpoints.noise(5000))
    asked = iter([False] * 7 + [True] * 99)

    def check_interrupted() -> None:
        if next(asked):
            raise LeaseLostError("over, on purpose")

    with pytest.raises(LeaseLostError):
        checkpoints.writer.upload(_snapshot(checkpoints), None, check_interrupted=check_interrupted)
    assert not any("/checkpoints/" in key for _, key in checkpoints.store.calls)


def _snapshot(checkpoints: CheckpointFixture) -> Snapshot:
    seen = scan(checkpoints.dirs, checkpoints.workload)
    taken = capture_files(
        seen, checkpoints.workload, Quality.QUIET, seq=9, step=None, dirs=checkpoints.dirs, in_place=set()
    )
    assert taken is not None
    return taken


def test_what_lies_here_is_not_fetched(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Right files, and the right extents of others, are taken from the disk; their chunks are known afterwards."""
    content = bytearray(checkpoints.noise(8192))
    checkpoints.write("a", bytes(content))
    checkpoints.write("b", b"the same")
    done = saved(checkpoints)
    back = tmp_path / "back"
    assert checkpoints.same(done, back).fetched_bytes == 8192 + 8
    assert checkpoints.same(done, back).fetched_bytes == 0
    content[5000] ^= 1
    (back / "checkpoint/a").write_bytes(content)
    (back / "checkpoint/stray").write_bytes(b"x")
    checkpoints.store.calls.clear()
    found = checkpoints.same(done, back)
    assert found.fetched_bytes == 1024
    assert [name for name, _ in checkpoints.store.calls] == ["get", "get_range"]
    assert done.base.runs == found.base.runs


def test_a_linked_file_is_not_written_through(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """A restore that repairs a file does not change other hard links to it."""
    checkpoints.write("a", checkpoints.noise(3000))
    done = saved(checkpoints)
    back = tmp_path / "back"
    (back / "checkpoint").mkdir(parents=True)
    other = tmp_path / "other"
    other.write_bytes(b"\0" * 3000)
    (back / "checkpoint/a").hardlink_to(other)
    checkpoints.same(done, back)
    assert other.read_bytes() == b"\0" * 3000


@pytest.mark.parametrize("harm", ["cut short", "lost", "a wrong byte", "a wrong frame"])
def test_damage_is_found(checkpoints: CheckpointFixture, tmp_path: Path, harm: str) -> None:
    """Neither a restore nor a verification accepts a pack that is truncated, lost or changed."""
    checkpoints.write("a", checkpoints.noise(3000) if harm != "a wrong frame" else b"compress me " * 300)
    done = saved(checkpoints)
    pack = next(iter(done.manifest.packs))
    body = bytearray(checkpoints.memory.get(pack).body)  # type: ignore[union-attr]
    if harm == "cut short":
        checkpoints.memory.put(pack, body[:-1])
    elif harm == "lost":
        checkpoints.memory.delete([pack])
    else:
        body[len(body) // 2] ^= 1
        checkpoints.memory.put(pack, body)
    with pytest.raises(CorruptCheckpointError, match="packs/e1/00000001"):
        checkpoints.restore(done, tmp_path / "back")
    with pytest.raises(CorruptCheckpointError, match="packs/e1/00000001"):
        verify(checkpoints.store, checkpoints.writer._clock, done.manifest, progress=lambda _: None)
    assert not (tmp_path / "back/checkpoint/a").exists()


def test_an_answer_that_gives_too_little_once_is_no_damage(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """A wrong answer is fetched a second time, because the transfer can be at fault."""
    checkpoints.write("a", checkpoints.noise(3000))
    done = saved(checkpoints)
    get_range, short = checkpoints.memory.get_range, list[Range]()

    def stingy(wanted: Range) -> bytes | None:
        content = get_range(wanted)
        if content and not short:
            short.append(wanted)
            return content[:-1]
        return content

    checkpoints.memory.get_range = stingy  # type: ignore[method-assign]
    checkpoints.same(done, tmp_path / "back")
    assert short


def test_verification_reads_everything(checkpoints: CheckpointFixture) -> None:
    """Every byte of every file is verified, and nothing is written."""
    checkpoints.write("a", checkpoints.noise(3000))
    checkpoints.write("b", b"compress me " * 300)
    done, read = saved(checkpoints), list[int]()
    before = files(checkpoints.dirs.root)
    verify(checkpoints.store, checkpoints.writer._clock, done.manifest, progress=read.append)
    assert sum(read) == done.manifest.bytes
    assert files(checkpoints.dirs.root) == before


def test_a_file_that_is_written_to_while_it_is_saved_is_not_committed(checkpoints: CheckpointFixture) -> None:
    """A write in place shows through the hard link; the error names the file, and nothing is committed."""
    path = checkpoints.write("a", checkpoints.noise(3000))

    def meddle() -> None:
        with path.open("r+b") as file:
            file.write(b"changed")

    with pytest.raises(TornSnapshotError, match="written to") as caught:
        checkpoints.writer.upload(_snapshot(checkpoints), None, check_interrupted=meddle)
    assert caught.value.paths == ("checkpoint/a",)
    assert not any("/checkpoints/" in key for _, key in checkpoints.store.calls)


def test_a_cap_makes_packs_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rate limit, a pack holds what may be sent in LIMITED_PACK_S, so that the limit holds over short times."""
    monkeypatch.setattr("lifecycle.checkpoint.packer.MIN_LIMITED_PACK_BYTES", 1_000)
    monkeypatch.setattr("lifecycle.checkpoint.packer.LIMITED_PACK_S", 0.02)
    checkpoints = CheckpointFixture(
        tmp_path, chunk_sizes=evolve(SMALL, pack_bytes=1 << 20, read_bytes=1 << 10), limit=500_000
    )
    checkpoints.write("a", checkpoints.noise(50_000))
    done = saved(checkpoints)
    assert max(done.manifest.packs.values()) <= 10_000
    assert sum(done.manifest.packs.values()) == 50_000
    checkpoints.same(done, tmp_path / "back")


def test_a_cap_is_kept() -> None:
    """Each send waits until the earlier ones have used their time; idle time is not saved up."""
    clock = ManualClock()
    limiter, sent_at = RateLimiter(clock, 10), []
    for size in (50, 20, 10):
        limiter.wait(size)
        sent_at.append(clock.monotonic())
    assert sent_at == [0.0, 5.0, 7.0]
    clock.sleep(100)
    for size in (50, 20):
        limiter.wait(size)
        sent_at.append(clock.monotonic())
    assert sent_at[3:] == [107.0, 112.0]


def test_extents_that_do_not_make_up_the_file_are_damage(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Each extent may be right and the file wrong; the digest of the whole file decides."""
    checkpoints.write("a", checkpoints.noise(64))
    checkpoints.write("b", checkpoints.noise(64))
    done = saved(checkpoints)
    one, other = done.manifest.files
    mixed = [evolve(one, extents=other.extents)]
    with pytest.raises(CorruptCheckpointError, match="do not match its digest"):
        fill(checkpoints.memory, SystemClock(), mixed, tmp_path / "back")
    assert not list((tmp_path / "back").rglob("a"))
