"""Manifests: what they say survives, and what would write outside a job's directory is refused."""

import pytest
from attrs import evolve

from lifecycle.errors import CorruptCheckpointError
from lifecycle.manifest import Extent, FileEntry, Manifest, decode, encode, is_safe_path

ENTRY = FileEntry("a/b.txt", 3, 0o644, "sha256:1", (Extent("j/packs/e1/1", 0, 3, "sha256:1"),))
MANIFEST = Manifest("j", epoch=1, seq=2, step=7, files=(ENTRY, FileEntry("empty", 0, 0o600, "sha256:0", ())))


def test_a_manifest_survives_its_encoding() -> None:
    """Every field comes back, and it knows its packs and its size."""
    assert decode(encode(MANIFEST)) == MANIFEST
    assert MANIFEST.packs == {"j/packs/e1/1"}
    assert MANIFEST.bytes == 3


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\0b", "a/"])
def test_a_path_that_could_leave_the_directory_is_refused(path: str) -> None:
    """Neither as a path nor in a manifest."""
    assert not is_safe_path(path)
    with pytest.raises(CorruptCheckpointError, match="unsafe"):
        decode(encode(evolve(MANIFEST, files=(evolve(ENTRY, path=path),))))


@pytest.mark.parametrize(
    "files",
    [
        (evolve(ENTRY, size=4),),
        (evolve(ENTRY, size=-3, extents=(Extent("p", 0, -3, "d"),)),),
        (evolve(ENTRY, extents=(Extent("p", -1, 3, "d"),)),),
        (ENTRY, ENTRY),
    ],
)
def test_numbers_that_do_not_add_up_are_refused(files: tuple[FileEntry, ...]) -> None:
    """Sizes are the sums of their pieces, nothing is negative, no path comes twice."""
    with pytest.raises(CorruptCheckpointError):
        decode(encode(evolve(MANIFEST, files=files)))
