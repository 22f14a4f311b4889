"""The checkpoint engine: what is sent, what is kept, what comes back."""

from pathlib import Path

import pytest
from attrs import evolve
from support.checkpoint_fixture import SMALL, Shelf, files

from adapters.local.clock import SystemClock
from adapters.memory.clock import ManualClock
from lifecycle.checkpoint.manifest import encode_manifest
from lifecycle.checkpoint.restore import fill, verify
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.concurrency import RateLimiter
from lifecycle.errors import CorruptCheckpointError, LeaseLostError, RetryableError, TornSnapshotError


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def saved(shelf: Shelf) -> UploadedCheckpoint:
    done = shelf.save()
    assert done is not None
    return done


def packs(shelf: Shelf) -> list[str]:
    return [key for name, key in shelf.store.calls if name == "put" and "/packs/" in key]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025, 4096, 4097, 9999])
def test_files_come_back_byte_for_byte(shelf: Shelf, tmp_path: Path, size: int) -> None:
    """Of every size around the edges of blocks, reads, frames and packs; in folders, with their modes."""
    shelf.write("a", shelf.noise(size))
    shelf.write("folder/b", b"compress me " * size).chmod(0o600)
    shelf.write("c", b"")
    shelf.same(saved(shelf), tmp_path / "back")


@pytest.mark.parametrize("names", [("state", ".state.part"), ("a" + "n" * 254, "b" + "n" * 254)])
def test_files_come_back_whatever_they_are_called(shelf: Shelf, tmp_path: Path, names: tuple[str, str]) -> None:
    """What a file is called until it is whole is nobody else's name: half-written states and long names, too."""
    for name in names:
        shelf.write(name, shelf.noise(100))
    shelf.same(saved(shelf), tmp_path / "back")


def test_a_block_that_is_there_is_not_sent(shelf: Shelf) -> None:
    """Changed in place, one block: one block is sent."""
    content = bytearray(shelf.noise(4000))
    shelf.write("a", bytes(content))
    first = saved(shelf)
    content[1600] ^= 1
    shelf.write("a", bytes(content))
    second = saved(shelf)
    assert shelf.store.sent == 16 + len(encode_manifest(second.manifest))
    assert len(packs(shelf)) == 1
    assert set(first.manifest.packs) < set(second.manifest.packs)


def test_what_is_appended_is_sent_alone(shelf: Shelf, tmp_path: Path) -> None:
    """And the last block again, if it was not full."""
    content = shelf.noise(3999)
    shelf.write("a", content)
    saved(shelf)
    shelf.write("a", content + shelf.noise(161))
    second = saved(shelf)
    assert shelf.store.sent - len(encode_manifest(second.manifest)) == 161 + 3999 % 16
    shelf.same(second, tmp_path / "back")


def test_nothing_new_asks_nothing_of_the_store(shelf: Shelf) -> None:
    """Not even a look; but a result has a manifest of its own, whatever is in it."""
    shelf.write("a", shelf.noise(3000))
    saved(shelf)
    shelf.write("a", (shelf.dirs.checkpoint / "a").read_bytes())
    assert shelf.save() is None
    assert shelf.save(is_last=True) is None
    assert shelf.store.calls == []
    assert shelf.save(is_result=True) is not None


def test_a_file_is_known_under_another_name_and_at_another_place(shelf: Shelf, tmp_path: Path) -> None:
    """Programs number their checkpoints, and results are what was saved already."""
    content = shelf.noise(2048)
    shelf.write("step-1", content)
    saved(shelf)
    (shelf.dirs.checkpoint / "step-1").unlink()
    shelf.write("step-2", shelf.noise(160) + content)
    second = saved(shelf)
    assert shelf.store.sent - len(encode_manifest(second.manifest)) == 160
    shelf.same(second, tmp_path / "back")


def test_many_small_files_are_few_objects(shelf: Shelf) -> None:
    """Requests follow the bytes, not the files."""
    for number in range(100):
        shelf.write(f"{number}", shelf.noise(20))
    done = saved(shelf)
    assert len(packs(shelf)) == 2
    assert len(done.manifest.files) == 100


def test_what_pays_is_compressed_and_what_does_not_is_not(shelf: Shelf, tmp_path: Path) -> None:
    """A log shrinks; random bytes are left alone."""
    shelf.write("log", b"step done\n" * 1000)
    shelf.write("noise", shelf.noise(3000))
    first = saved(shelf)
    assert shelf.store.sent - len(encode_manifest(first.manifest)) < 3000 + 5000
    log, noise = first.manifest.files
    assert all(extent.frame_length for extent in log.extents[:-1])
    assert not any(extent.frame_length for extent in noise.extents)
    shelf.write("log", b"step done\n" * 500 + b"something else entirely" + b"step done\n" * 500)
    shelf.same(saved(shelf), tmp_path / "back")


def test_a_growing_output_goes_with_the_checkpoint(shelf: Shelf, tmp_path: Path) -> None:
    """To the length that it has: what comes after is the next one's."""
    shelf.write("a", b"state 1")
    log = shelf.dirs.output / "run.log"
    log.write_bytes(shelf.noise(500))
    (shelf.dirs.output / "not-growing").write_bytes(b"x")
    first = saved(shelf)
    with log.open("ab") as file:
        file.write(shelf.noise(160))
    shelf.write("a", b"state 2")
    second = saved(shelf)
    assert shelf.store.sent - len(encode_manifest(second.manifest)) == 160 + 500 % 16 + len("state 2")
    shelf.restore(first, tmp_path / "first")
    assert (tmp_path / "first/output/run.log").read_bytes() == log.read_bytes()[:500]
    assert not (tmp_path / "first/output/not-growing").exists()
    shelf.restore(second, tmp_path / "second")
    assert (tmp_path / "second/output/run.log").read_bytes() == log.read_bytes()


def test_stored_bytes_are_at_most_twice_the_live_ones(shelf: Shelf, tmp_path: Path) -> None:
    """However often a little changes here and there: mostly dead packs are rewritten, from the node's own disk."""
    content = bytearray(shelf.noise(4000))
    sent = 0
    for _ in range(60):
        for _ in range(5):
            content[shelf.rng.randrange(len(content))] ^= 255
        shelf.write("a", bytes(content))
        done = saved(shelf)
        sent += shelf.store.sent - len(encode_manifest(done.manifest))
        assert sum(done.manifest.packs.values()) <= 2 * 4000
        assert not any(name.startswith("get") for name, _ in shelf.store.calls)
    assert sent < 4000 + 60 * 5 * 16 * 3
    shelf.same(done, tmp_path / "back")


def test_an_upload_cut_short_goes_on_where_it_was(shelf: Shelf, tmp_path: Path) -> None:
    """What arrived before the store failed is not sent again, though the next snapshot is another one."""
    content = shelf.noise(8192)
    shelf.write("a", content)
    put, taken = shelf.memory.put, []

    def failing(key: str, body: bytes, **condition: object) -> str:
        if len(taken) == 5:
            raise RetryableError("503, on purpose")
        taken.append(len(body))
        return put(key, body, **condition)  # type: ignore[arg-type]

    shelf.memory.put = failing  # type: ignore[method-assign]
    with pytest.raises(RetryableError):
        shelf.save()
    shelf.memory.put = put  # type: ignore[method-assign]
    shelf.write("a", content + b"and a little more")
    done = saved(shelf)
    assert shelf.store.sent - len(encode_manifest(done.manifest)) == 8192 + len(b"and a little more") - sum(taken)
    shelf.same(done, tmp_path / "back")
    keys = [key for name, key in shelf.store.calls if name == "put"]
    assert len(keys) == len(set(keys))


def test_what_a_failed_upload_has_left_is_not_used_once_it_is_collected(shelf: Shelf, tmp_path: Path) -> None:
    """A commit removes what no manifest names; a later snapshot that would find it there again sends it again."""
    content = shelf.noise(2048)
    shelf.write("a", content)
    with pytest.raises(RetryableError):
        _save_with_failing_manifest(shelf)
    shelf.write("a", b"another")
    saved(shelf)
    shelf.memory.delete([listed.key for listed in shelf.memory.list("j/packs/") if listed.size_bytes >= 1024])
    shelf.write("a", content)
    shelf.same(saved(shelf), tmp_path / "back")


def _save_with_failing_manifest(shelf: Shelf) -> None:
    put = shelf.memory.put

    def failing(key: str, body: bytes, **condition: object) -> str:
        if "/checkpoints/" in key:
            raise RetryableError("503, on purpose")
        return put(key, body, **condition)  # type: ignore[arg-type]

    shelf.memory.put = failing  # type: ignore[method-assign]
    try:
        shelf.save()
    finally:
        shelf.memory.put = put  # type: ignore[method-assign]


def test_an_attempt_that_is_over_uploads_no_more(shelf: Shelf) -> None:
    """It is asked between two pieces, also in the middle of a file."""
    shelf.write("a", shelf.noise(5000))
    asked = iter([False] * 7 + [True] * 99)

    def check_interrupted() -> None:
        if next(asked):
            raise LeaseLostError("over, on purpose")

    with pytest.raises(LeaseLostError):
        shelf.writer.upload(_snapshot(shelf), None, check_interrupted=check_interrupted)
    assert not any("/checkpoints/" in key for _, key in shelf.store.calls)


def _snapshot(shelf: Shelf):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as the shelf takes it
    from lifecycle.checkpoint.snapshot import capture_files, scan  # noqa: PLC0415

    seen = scan(shelf.dirs, shelf.workload)
    return capture_files(seen, shelf.workload, seq=9, step=None, dirs=shelf.dirs, in_place=set())


def test_what_lies_here_is_not_fetched(shelf: Shelf, tmp_path: Path) -> None:
    """Whole files that are right, and the right pieces of those that are not; and its blocks are known again."""
    content = bytearray(shelf.noise(8192))
    shelf.write("a", bytes(content))
    shelf.write("b", b"the same")
    done = saved(shelf)
    back = tmp_path / "back"
    assert shelf.same(done, back).fetched_bytes == 8192 + 8
    assert shelf.same(done, back).fetched_bytes == 0
    content[5000] ^= 1
    (back / "checkpoint/a").write_bytes(content)
    (back / "checkpoint/stray").write_bytes(b"x")
    shelf.store.calls.clear()
    found = shelf.same(done, back)
    assert found.fetched_bytes == 1024
    assert [name for name, _ in shelf.store.calls] == ["get", "get_range"]
    assert done.base.runs == found.base.runs


def test_a_linked_file_is_not_written_through(shelf: Shelf, tmp_path: Path) -> None:
    """A restore that mends a file leaves other names of it alone."""
    shelf.write("a", shelf.noise(3000))
    done = saved(shelf)
    back = tmp_path / "back"
    (back / "checkpoint").mkdir(parents=True)
    other = tmp_path / "other"
    other.write_bytes(b"\0" * 3000)
    (back / "checkpoint/a").hardlink_to(other)
    shelf.same(done, back)
    assert other.read_bytes() == b"\0" * 3000


@pytest.mark.parametrize("harm", ["cut short", "lost", "a wrong byte", "a wrong frame"])
def test_damage_is_found(shelf: Shelf, tmp_path: Path, harm: str) -> None:
    """Whatever happens to a pack: neither a restore nor a verification takes it for the checkpoint."""
    shelf.write("a", shelf.noise(3000) if harm != "a wrong frame" else b"compress me " * 300)
    done = saved(shelf)
    pack = next(iter(done.manifest.packs))
    body = bytearray(shelf.memory.get(pack).body)  # type: ignore[union-attr]
    if harm == "cut short":
        shelf.memory.put(pack, body[:-1])
    elif harm == "lost":
        shelf.memory.delete([pack])
    else:
        body[len(body) // 2] ^= 1
        shelf.memory.put(pack, body)
    with pytest.raises(CorruptCheckpointError, match="packs/e1/00000001"):
        shelf.restore(done, tmp_path / "back")
    with pytest.raises(CorruptCheckpointError, match="packs/e1/00000001"):
        verify(shelf.store, shelf.writer._clock, done.manifest, progress=lambda _: None)
    assert not (tmp_path / "back/checkpoint/a").exists()


def test_an_answer_that_gives_too_little_once_is_no_damage(shelf: Shelf, tmp_path: Path) -> None:
    """The way can be at fault, and not the store: it is asked again."""
    shelf.write("a", shelf.noise(3000))
    done = saved(shelf)
    get_range, short = shelf.memory.get_range, []

    def stingy(wanted):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        content = get_range(wanted)
        if not short:
            short.append(wanted)
            return content[:-1]  # type: ignore[index]
        return content

    shelf.memory.get_range = stingy  # type: ignore[method-assign]
    shelf.same(done, tmp_path / "back")
    assert short


def test_verification_reads_everything(shelf: Shelf) -> None:
    """Every byte of every file is compared, and nothing is written."""
    shelf.write("a", shelf.noise(3000))
    shelf.write("b", b"compress me " * 300)
    done, read = saved(shelf), []
    before = files(shelf.dirs.root)
    verify(shelf.store, shelf.writer._clock, done.manifest, progress=read.append)
    assert sum(read) == done.manifest.bytes
    assert files(shelf.dirs.root) == before


def test_a_file_that_is_written_to_while_it_is_saved_is_not_committed(shelf: Shelf) -> None:
    """A link shows what is done to the file: it is seen, and says which file it was."""
    path = shelf.write("a", shelf.noise(3000))

    def meddle() -> None:
        with path.open("r+b") as file:
            file.write(b"changed")

    with pytest.raises(TornSnapshotError, match="written to") as caught:
        shelf.writer.upload(_snapshot(shelf), None, check_interrupted=meddle)
    assert caught.value.paths == ("checkpoint/a",)
    assert not any("/checkpoints/" in key for _, key in shelf.store.calls)


def test_a_cap_makes_packs_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be sent in PACED_S goes into one, so that a cap is not kept in one long burst."""
    monkeypatch.setattr("lifecycle.checkpoint.packer.MIN_LIMITED_PACK_BYTES", 1_000)
    monkeypatch.setattr("lifecycle.checkpoint.packer.LIMITED_PACK_S", 0.02)
    shelf = Shelf(tmp_path, chunk_sizes=evolve(SMALL, pack_bytes=1 << 20, read_bytes=1 << 10), limit=500_000)
    shelf.write("a", shelf.noise(50_000))
    done = saved(shelf)
    assert max(done.manifest.packs.values()) <= 10_000
    assert sum(done.manifest.packs.values()) == 50_000
    shelf.same(done, tmp_path / "back")


def test_a_cap_is_kept() -> None:
    """Whoever is to send waits until what was sent before it has had its time; who comes late may send at once."""
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


def test_pieces_that_do_not_make_up_the_file_are_damage(shelf: Shelf, tmp_path: Path) -> None:
    """Each piece may be right, and their order wrong: the file's own digest has the last word."""
    shelf.write("a", shelf.noise(64))
    shelf.write("b", shelf.noise(64))
    done = saved(shelf)
    one, other = done.manifest.files
    mixed = [evolve(one, extents=other.extents)]
    with pytest.raises(CorruptCheckpointError, match="do not match its digest"):
        fill(shelf.memory, SystemClock(), mixed, tmp_path / "back")
    assert not list((tmp_path / "back").rglob("a"))
