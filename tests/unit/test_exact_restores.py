"""A restore is exact: a program cannot tell a restored directory from the one that was saved."""

import json
import os
import stat
from pathlib import Path

import pytest
from attrs import evolve
from support.checkpoint_fixture import CheckpointFixture, as_schema_2, saved
from support.unprivileged import unprivileged

from adapters.local.clock import SystemClock
from lifecycle.checkpoint.capture import capture_announced, capture_output
from lifecycle.checkpoint.links import portable_target, resolved_inside
from lifecycle.checkpoint.manifest import HOLE, Manifest
from lifecycle.checkpoint.manifest_codec import decode_manifest, encode_manifest
from lifecycle.checkpoint.publish import published_files
from lifecycle.checkpoint.restore import verify
from lifecycle.checkpoint.restore_tree import finish
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.writer import UploadedCheckpoint
from lifecycle.errors import CorruptCheckpointError, NewerManifestError
from lifecycle.ports.runner import Announced

AN_HOUR_AGO = 1_700_000_000_123_456_789


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFixture:
    return CheckpointFixture(tmp_path)


def listing(root: Path, areas: tuple[str, ...] = ("checkpoint",)) -> dict[str, object]:
    """Return all that a program can tell about its files: kind, mode, time, content, and which names are one file."""
    found: dict[str, object] = {}
    names: dict[tuple[int, int], str] = {}
    for path in sorted(path for area in areas for path in [root / area, *(root / area).rglob("*")]):
        seen, name = path.lstat(), path.relative_to(root).as_posix()
        kind = stat.S_IFMT(seen.st_mode)
        if kind == stat.S_IFLNK:
            found[name] = ("link", os.readlink(path), seen.st_mtime_ns)  # noqa: PTH115 - the text as it is
        elif kind == stat.S_IFDIR:
            found[name] = ("directory", stat.S_IMODE(seen.st_mode), seen.st_mtime_ns)
        else:
            first = names.setdefault((seen.st_dev, seen.st_ino), name)
            found[name] = (first, stat.S_IMODE(seen.st_mode), seen.st_mtime_ns, path.read_bytes())
    return found


def age(root: Path) -> None:
    """Give every entry a time of its own, long ago."""
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(AN_HOUR_AGO + number, AN_HOUR_AGO + number), follow_symlinks=False)
    os.utime(root, ns=(AN_HOUR_AGO - 1, AN_HOUR_AGO - 1))


def fill_with_everything(folder: Path) -> None:
    """Make entries of every kind that a checkpoint keeps."""
    (folder / "epoch=1.ckpt").write_bytes(b"one")
    (folder / "epoch=2.ckpt").write_bytes(b"two" * 100)
    (folder / "epoch=2.ckpt").chmod(0o640)
    (folder / "last.ckpt").symlink_to("epoch=2.ckpt")
    (folder / "dangling").symlink_to("../nowhere/./at//all")
    (folder / "outside").symlink_to("/etc/hostname")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty").mkdir(0o711)
    (folder / "sticky").mkdir()
    (folder / "sticky").chmod(0o1777)
    (folder / "deep" / "link-to-dir").symlink_to("../empty")
    (folder / "deep" / "er" / "same").hardlink_to(folder / "epoch=1.ckpt")
    (folder / ".hidden").write_bytes(b"")
    (folder / "run").write_bytes(b"#!/bin/sh")
    (folder / "run").chmod(0o6755)
    for name in ("é".encode(), "e\u0301".encode(), b"\xff\xfe", b'a\nb\\"%'):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(name)
    Path(os.fsdecode(bytes(folder) + b"/link\xff")).symlink_to(os.fsdecode(b"\xff\xfe"))


def test_everything_comes_back_as_it_was(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Names of any bytes, contents, modes, times, empty directories, symbolic and hard links: also a second time."""
    fill_with_everything(checkpoints.dirs.checkpoint)
    age(checkpoints.dirs.checkpoint)
    before = listing(checkpoints.dirs.root)
    before["checkpoint/run"] = ("checkpoint/run", 0o755, *before["checkpoint/run"][2:])  # type: ignore[index]
    done = saved(checkpoints)
    assert listing(checkpoints.dirs.root) != before  # only by the mode that is not kept
    for _ in range(2):
        checkpoints.restore(done, tmp_path / "back")
        assert listing(tmp_path / "back") == before


def test_a_restore_over_anything_else_is_exact(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """What another attempt left is replaced, whatever kind it has, and what is right is not fetched again."""
    fill_with_everything(checkpoints.dirs.checkpoint)
    age(checkpoints.dirs.checkpoint)
    done = saved(checkpoints)
    back = tmp_path / "back"
    checkpoints.restore(done, back)
    wanted, folder = listing(back), back / "checkpoint"
    (folder / "last.ckpt").unlink()
    (folder / "last.ckpt").write_bytes(b"a file")
    (folder / "dangling").unlink()
    (folder / "dangling").mkdir()
    (folder / "empty").rmdir()
    (folder / "empty").symlink_to("deep")
    (folder / "deep" / "er" / "same").unlink()
    (folder / "deep" / "er" / "same").write_bytes(b"one")
    (folder / "run").unlink()
    (folder / "run").hardlink_to(folder / ".hidden")
    (folder / "stray").symlink_to("deep")
    (folder / "deep" / "er").chmod(0o500)
    checkpoints.store.calls.clear()
    checkpoints.restore(done, back)
    assert listing(back) == wanted
    fetched = [call for call in checkpoints.store.calls if call[0] == "get_range"]
    assert len(fetched) == 1  # the content of `run`


def test_two_equal_files_do_not_become_one(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Names that were linked after the checkpoint are files of their own again: a write to one spares the other."""
    checkpoints.write("a", b"same")
    checkpoints.write("b", b"same")
    done = saved(checkpoints)
    back = tmp_path / "back"
    checkpoints.restore(done, back)
    (back / "checkpoint" / "b").unlink()
    (back / "checkpoint" / "b").hardlink_to(back / "checkpoint" / "a")
    checkpoints.restore(done, back)
    assert not (back / "checkpoint" / "a").samefile(back / "checkpoint" / "b")
    assert (back / "checkpoint" / "b").read_bytes() == b"same"


def test_hard_links_are_not_told_by_their_count(checkpoints: CheckpointFixture) -> None:
    """Snapshots link files too: a file that only a snapshot shares has one name in the manifest."""
    checkpoints.write("a", b"one")
    saved(checkpoints)
    checkpoints.write("b", b"two")
    second = saved(checkpoints)
    assert (checkpoints.dirs.checkpoint / "a").stat().st_nlink > 1
    assert second.manifest.hard_links == ()
    assert [entry.path for entry in second.manifest.files] == ["checkpoint/a", "checkpoint/b"]


def test_hard_links_written_in_place_are_copied_once(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """The copy is one file with two names, too."""
    checkpoints.write("a", b"one")
    (checkpoints.dirs.checkpoint / "b").hardlink_to(checkpoints.dirs.checkpoint / "a")
    done = checkpoints.save(in_place={"checkpoint/a"})
    assert done is not None
    checkpoints.restore(done, tmp_path / "back")
    assert (tmp_path / "back/checkpoint/a").samefile(tmp_path / "back/checkpoint/b")


def test_directories_that_permit_nothing_come_back() -> None:
    """They are saved if they can be listed, filled while they permit it, and cleaned afterwards."""

    def part(folder: Path) -> None:
        checkpoints = CheckpointFixture(folder)
        closed = checkpoints.dirs.checkpoint / "read-only"
        (closed / "below").mkdir(parents=True)
        (closed / "file").write_bytes(b"x")
        (closed / "file").chmod(0o400)
        (closed / "below").chmod(0o500)
        closed.chmod(0o555)
        age(checkpoints.dirs.checkpoint)
        done = saved(checkpoints)
        for _ in range(2):
            checkpoints.restore(done, folder / "back")
            assert listing(folder / "back") == listing(checkpoints.dirs.root)
        empty = evolve(done.manifest, files=(), directories=())
        checkpoints.restore_manifest(empty, folder / "back")
        assert list((folder / "back/checkpoint").iterdir()) == []

    unprivileged(part)


# ---- times ----


def test_touched_files_are_no_new_checkpoint(checkpoints: CheckpointFixture) -> None:
    """A job that only touches its files does not get further; a mode, a link or a directory is something new."""
    folder = checkpoints.dirs.checkpoint
    checkpoints.write("a", b"one")
    (folder / "link").symlink_to("a")
    saved(checkpoints)
    age(folder)
    assert checkpoints.save() is None
    (folder / "empty").mkdir()
    assert checkpoints.save() is not None
    (folder / "empty").chmod(0o700)
    assert checkpoints.save() is not None
    (folder / "b").hardlink_to(folder / "a")
    assert checkpoints.save() is not None
    (folder / "link").unlink()
    (folder / "link").symlink_to("b")
    assert checkpoints.save() is not None
    assert checkpoints.save() is None


# ---- holes ----


def sparse(path: Path, size: int, *data: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, content in data:
            file.seek(offset)
            file.write(content)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 5])
def test_holes_are_neither_stored_nor_filled(checkpoints: CheckpointFixture, tmp_path: Path, size: int) -> None:
    """A sparse file takes no more room after a restore than before, and costs as many bytes as it has data."""
    path, noise = checkpoints.dirs.checkpoint / "sparse", checkpoints.noise(5000)
    sparse(path, size, (0, b"head"), (size // 2, noise), (size - 3, b"end"))
    first = saved(checkpoints)
    assert checkpoints.store.sent - len(encode_manifest(first.manifest)) < 5000 + 200
    back = checkpoints.same(first, tmp_path / "back")
    restored = tmp_path / "back/checkpoint/sparse"
    assert restored.stat().st_blocks <= path.stat().st_blocks
    assert back.base.runs["checkpoint/sparse"] == first.base.runs["checkpoint/sparse"]
    verified: list[int] = []
    verify(checkpoints.store, SystemClock(), first.manifest, progress=verified.append)
    assert sum(verified) == size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"new")
    second = saved(checkpoints)
    sent = checkpoints.store.sent - len(encode_manifest(second.manifest))
    assert sent < 64
    checkpoints.store.calls.clear()
    checkpoints.restore(second, tmp_path / "back")
    assert restored.read_bytes() == path.read_bytes()
    checkpoints.restore(first, tmp_path / "back")
    assert restored.read_bytes()[size // 4 :][:3] == b"\0\0\0"
    assert sum(wanted.length for name, wanted in checkpoints.store.calls if name == "get_range") == sent


def test_zeros_that_were_written_are_not_stored_either(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """In a file of any size, also in between data."""
    checkpoints.write("a", b"x" * 16 + bytes(160) + b"y" * 16 + bytes(16) + b"z")
    done = saved(checkpoints)
    assert [extent.length for extent in done.manifest.files[0].extents if extent.pack == HOLE] == [160, 16]
    checkpoints.same(done, tmp_path / "back")


def test_a_copy_keeps_holes(checkpoints: CheckpointFixture) -> None:
    """A file that is written in place and therefore copied does not fill the disk."""
    path = checkpoints.dirs.checkpoint / "sparse"
    sparse(path, 1 << 24, (1 << 20, b"data"))
    done = checkpoints.save(in_place={"checkpoint/sparse"})
    assert done is not None
    (copy,) = checkpoints.dirs.snapshots.rglob("sparse")
    assert not copy.samefile(path)
    assert copy.read_bytes() == path.read_bytes()
    assert copy.stat().st_blocks <= path.stat().st_blocks


# ---- links ----


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("epoch=1.ckpt", "epoch=1.ckpt"),
        ("/slot/job/checkpoint/epoch=1.ckpt", "epoch=1.ckpt"),
        ("/slot/job/output/log", "../output/log"),
        ("/slot/job/control/announced/3/a", "a"),
        ("/slot/job/a/../b", "../a/../b"),
        ("/slot/job", ".."),
        ("/slot/job2/a", "/slot/job2/a"),
        ("/etc/passwd", "/etc/passwd"),
    ],
)
def test_absolute_links_into_the_job_become_relative(target: str, kept: str) -> None:
    """The job's directory has another name in another slot; every other text is kept as it is."""
    roots = ((Path("/slot/job/control/announced/3"), "checkpoint"), (Path("/slot/job"), ""))
    assert portable_target(target, "checkpoint/last.ckpt", roots) == kept


@pytest.mark.parametrize(
    ("path", "target", "leads_to"),
    [
        ("output/last", "a/b", "output/a/b"),
        ("output/x/last", "../a", "output/a"),
        ("output/x/last", "./../..//output/a", "output/a"),
        ("output/last", "../../etc", None),
        ("output/last", "../input/a", None),
        ("output/last", "/output/a", None),
        ("output/last", "a/../b", None),
        ("output/last", "..", None),
    ],
)
def test_links_that_leave_the_tree_are_known(path: str, target: str, leads_to: str | None) -> None:
    """Whatever other links there are: `..` behind a name may leave the target of another link."""
    assert resolved_inside(path, target, {"output"}) == leads_to


def test_a_link_restored_in_another_slot_leads_to_its_own_files(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """An absolute link into the job's directory reads the restored file, and not that of another job."""
    folder = checkpoints.dirs.checkpoint
    checkpoints.write("epoch=1.ckpt", b"mine")
    (folder / "last.ckpt").symlink_to(folder / "epoch=1.ckpt")
    done = saved(checkpoints)
    (folder / "epoch=1.ckpt").write_bytes(b"another job's")
    checkpoints.restore(done, tmp_path / "back")
    assert (tmp_path / "back/checkpoint/last.ckpt").read_bytes() == b"mine"


def test_an_announced_checkpoint_keeps_its_links(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Also those that lead to where it was written."""
    announced = checkpoints.dirs.control / "announced" / "3"
    announced.mkdir(parents=True)
    fill_with_everything(announced)
    (announced / "absolute").symlink_to(announced / "epoch=2.ckpt")
    age(announced)
    before = listing(checkpoints.dirs.control / "announced", ("3",))
    taken = capture_announced(Announced(3, announced, 7), checkpoints.workload, seq=1, dirs=checkpoints.dirs)
    done = upload(checkpoints, taken)
    checkpoints.restore(done, tmp_path / "back")
    after = listing(tmp_path / "back")
    assert {name.partition("/")[2] for name in before} == {name.partition("/")[2] for name in after}
    assert (tmp_path / "back/checkpoint/absolute").readlink() == Path("epoch=2.ckpt")


def upload(checkpoints: CheckpointFixture, taken: Snapshot) -> UploadedCheckpoint:
    done = checkpoints.writer.upload(taken, None, check_interrupted=lambda: None)
    assert done is not None
    return done


def test_outputs_come_back_and_are_published_as_one_tree(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """An object is no link: links to files of the tree become copies. Those that lead out are named and left out."""
    folder = checkpoints.dirs.output
    fill_with_everything(folder)
    (folder / "chain").symlink_to("last.ckpt")
    (folder / "loop").symlink_to("loop")
    (folder / "state").symlink_to("../checkpoint/a")
    before = listing(checkpoints.dirs.root, ("output",))
    taken = capture_output(seq=1, step=None, dirs=checkpoints.dirs)
    assert set(taken.skipped) == {
        "output/dangling -> ../nowhere/./at//all",
        "output/outside -> /etc/hostname",
        "output/state -> ../checkpoint/a",
    }
    done = upload(checkpoints, taken)
    published = {path: entry.path for path, entry in published_files(done.manifest)}
    assert published["output/last.ckpt"] == published["output/chain"] == "output/epoch=2.ckpt"
    assert published["output/epoch=1.ckpt"] == published["output/deep/er/same"]
    assert not {"output/dangling", "output/outside", "output/loop", "output/deep/link-to-dir"} & published.keys()
    back = tmp_path / "back"
    checkpoints.restore(done, back)
    for link in ("outside", "dangling", "state"):
        (back / "output" / link).unlink()
    omitted = finish(back, done.manifest, inside=True)
    assert set(omitted) == set(taken.skipped)
    after = listing(back, ("output",))
    left_out = {f"output/{name}" for name in ("outside", "dangling", "state", "run")}
    assert {name: what for name, what in before.items() if name not in left_out} == {
        name: what for name, what in after.items() if name not in left_out
    }


# ---- manifests of other versions ----


def test_manifests_of_the_version_before_are_read(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """They have no times, directories and qualities; names that are no UTF-8 are in them as surrogates."""
    checkpoints.write("folder/a", checkpoints.noise(3000))
    checkpoints.write(os.fsdecode(b"\xff"), b"x")
    done = saved(checkpoints)
    older = decode_manifest(as_schema_2(done.manifest))
    assert older == evolve(
        done.manifest,
        directories=(),
        files=tuple(evolve(file, mtime_ns=None) for file in done.manifest.files),
        quality=None,
    )
    restored = checkpoints.restore_manifest(older, tmp_path / "back", as_schema_2)
    assert sorted(listing(tmp_path / "back")) == sorted(listing(checkpoints.dirs.root))
    checkpoints.base = restored.base
    assert checkpoints.save() is not None  # it has directories now
    assert not [call for call in checkpoints.store.calls if "/packs/" in str(call[1])]


def test_a_manifest_of_a_newer_version_is_not_damaged(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """It cannot be read here; no older checkpoint is used in its place."""
    checkpoints.write("a", b"x")
    done = saved(checkpoints)

    def newer(manifest: Manifest) -> bytes:
        return encode_manifest(manifest).replace(b'{"schema":3', b'{"schema":4')

    with pytest.raises(NewerManifestError, match="has schema 4"):
        checkpoints.restore_manifest(done.manifest, tmp_path / "back", newer, fallback=done.ref)


@pytest.mark.parametrize(
    "change",
    [
        {"directories": [["checkpoint/a", 0o755, 0]]},
        {"directories": [["control", 0o755, 0]]},
        {"directories": [["checkpoint/../x", 0o755, 0]]},
        {"directories": [["checkpoint/d", 0o755, 1 << 63]]},
        {"directories": [["checkpoint", 0o755, 0], ["checkpoint", 0o755, 0]]},
        {"symlinks": [["checkpoint/a", "b", 0]]},
        {"symlinks": [["checkpoint", "b", 0]]},
        {"symlinks": [["checkpoint/l", "", 0]]},
        {"symlinks": [["checkpoint/l", "a\0b", 0]]},
        {"symlinks": [["checkpoint/l", "x", 0], ["checkpoint/l/x", "x", 0]]},
        {"symlinks": [[{"hex": "zz"}, "x", 0]]},
        {"symlinks": [["checkpoint/\ud800", "x", 0]]},
        {"hard_links": [["checkpoint/b", "checkpoint/none"]]},
        {"hard_links": [["checkpoint/a/b", "checkpoint/a"]]},
        {"schema": 1},
        {"schema": "3"},
    ],
)
def test_manifests_that_no_version_writes_are_refused(
    checkpoints: CheckpointFixture, change: dict[str, object]
) -> None:
    """Paths are inside and occur once, and only directories are on the way to another path."""
    checkpoints.write("a", b"x")
    raw = json.loads(encode_manifest(evolve(saved(checkpoints).manifest, directories=())))
    decode_manifest(json.dumps(raw).encode())
    with pytest.raises(CorruptCheckpointError):
        decode_manifest(json.dumps({**raw, **change}).encode())


@pytest.mark.parametrize("extent", [[None, 0, 16, "d", 5, 0], [None, 0, 0, "d"], [None, 0, 1 << 40, "d"]])
def test_holes_that_do_not_add_up_are_refused(checkpoints: CheckpointFixture, extent: list[object]) -> None:
    """A hole has a length, is not compressed, and makes up the file with the other extents."""
    checkpoints.write("a", bytes(16))
    raw = json.loads(encode_manifest(saved(checkpoints).manifest))
    (file,) = raw["files"]
    assert file["extents"][0][0] is None
    file["extents"] = [extent]
    with pytest.raises(CorruptCheckpointError):
        decode_manifest(json.dumps(raw).encode())


def test_a_hole_with_a_wrong_digest_is_damage(checkpoints: CheckpointFixture, tmp_path: Path) -> None:
    """Although nothing of it is stored, it is verified."""
    checkpoints.write("a", bytes(64))
    done = saved(checkpoints)
    (file,) = done.manifest.files
    wrong = evolve(done.manifest, files=(evolve(file, extents=(evolve(file.extents[0], digest="00"),)),))
    with pytest.raises(CorruptCheckpointError):
        checkpoints.restore_manifest(wrong, tmp_path / "back")
