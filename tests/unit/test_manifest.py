"""Manifests: encoding loses nothing, and a manifest that would write outside a job's directory is refused."""

import json

import pytest
from attrs import evolve

from lifecycle.checkpoint.manifest import Extent, FileEntry, Manifest, Quality, is_safe_path
from lifecycle.checkpoint.manifest_codec import decode_manifest, encode_manifest
from lifecycle.errors import CorruptCheckpointError

PACKS = {"j/packs/e1/1": 900, "j/packs/e1/2": 100}
RAW = Extent("j/packs/e1/1", 0, 8, "d1")
FRAME = Extent("j/packs/e1/2", 40, 7, "d2", frame_length=60, skip=2)
ENTRY = FileEntry("checkpoint/a/b.txt", 15, 0o644, 4, "d", (RAW, FRAME))
MANIFEST = Manifest("j", 1, 2, 7, PACKS, (ENTRY, FileEntry("output/empty", 0, 0o600, 4, "d0", ())))


def test_a_manifest_survives_its_encoding() -> None:
    """Every field survives, and the size is the sum of the files."""
    assert decode_manifest(encode_manifest(MANIFEST)) == MANIFEST
    assert MANIFEST.bytes == 15


@pytest.mark.parametrize("quality", [None, *Quality])
def test_a_manifest_says_how_it_was_captured(quality: Quality | None) -> None:
    """The quality survives the encoding, and so does the fact that the job has announced a checkpoint."""
    for announces in (False, True):
        manifest = evolve(MANIFEST, quality=quality, announces=announces)
        assert decode_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize("value", ["better", "", 3, [], {}, True])
def test_an_unknown_quality_does_not_spoil_a_checkpoint(value: object) -> None:
    """A manifest with a quality that this version does not know, or with none, is readable: its quality is unknown."""
    raw = json.loads(encode_manifest(evolve(MANIFEST, quality=Quality.QUIET)))
    assert decode_manifest(json.dumps({**raw, "quality": value}).encode()).quality is None
    del raw["quality"], raw["announces"]
    assert decode_manifest(json.dumps(raw).encode()) == MANIFEST


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\0b", "a/"])
def test_a_path_that_could_leave_the_directory_is_refused(path: str) -> None:
    """An unsafe path is refused, also inside a manifest, where only two folders are allowed."""
    assert not is_safe_path(path)
    for unsafe in (path, f"checkpoint/{path}", "control/exit", "checkpoint2/a", "a"):
        if unsafe != "checkpoint/":
            with pytest.raises(CorruptCheckpointError, match="unsafe"):
                decode_manifest(encode_manifest(evolve(MANIFEST, files=(evolve(ENTRY, path=unsafe),))))


@pytest.mark.parametrize(
    "files",
    [
        (evolve(ENTRY, size=16),),
        (evolve(ENTRY, chunk_bytes=0),),
        (evolve(ENTRY, chunk_bytes=3),),
        (evolve(ENTRY, chunk_bytes=2 << 20),),
        (evolve(ENTRY, size=-8, extents=(evolve(RAW, length=-8),)),),
        (evolve(ENTRY, size=7, extents=(evolve(FRAME, offset=-1),)),),
        (evolve(ENTRY, size=7, extents=(evolve(FRAME, offset=41),)),),
        (evolve(ENTRY, size=8, extents=(evolve(RAW, offset=893),)),),
        (evolve(ENTRY, size=8, extents=(RAW, evolve(RAW, length=0))),),
        (ENTRY, ENTRY),
    ],
)
def test_numbers_that_do_not_add_up_are_refused(files: tuple[FileEntry, ...]) -> None:
    """Sizes are sums of extents, extents are whole chunks inside their packs, and each path occurs once."""
    with pytest.raises(CorruptCheckpointError):
        decode_manifest(encode_manifest(evolve(MANIFEST, files=files)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": 1 << 40}, "cannot be read"),
        ({"size": 1 << 70}, "cannot be read"),
        ({"path": "output/" + "x" * 300}, "no disk can hold"),
        ({"path": "output/" + "d/" * 3000 + "x"}, "no disk can hold"),
    ],
)
def test_a_manifest_that_no_disk_can_hold_is_damaged(change: dict[str, object], reason: str) -> None:
    """A crafted manifest is refused before a file is made."""
    raw = json.loads(encode_manifest(MANIFEST))
    raw["files"][0].update(change)
    with pytest.raises(CorruptCheckpointError, match=reason):
        decode_manifest(json.dumps(raw).encode())
