"""The manifest: which files a checkpoint (or a result) consists of, and where their bytes lie. Immutable once written.

JSON, UTF-8, written small, since one is sent with every checkpoint::

    {"schema": 2, "job": "j", "epoch": 3, "seq": 7, "step": 70,
     "packs": [["prefix/j/packs/e3/00000012-9c41d0e7", 16777216], …],
     "files": [{"path": "checkpoint/state.bin", "size": 40000, "mode": 420, "block": 16384, "digest": "…",
                "extents": [[0, 4096, 32768, "…"], [0, 36864, 7232, "…", 900, 0]]}, …]}

A path is relative to the job's directory and lies in `checkpoint/` or `output/`. A file's bytes are its extents' bytes
in order: pack (its place in "packs"), offset in the pack, bytes of the file, digest; and, where the pack holds them
compressed, the length of the zstd frame that stands at the offset, and how many of its bytes come before.

A file is cut into blocks of equal size, but for the last. The digest of a run of blocks (an extent, a whole file) is
the BLAKE3 of the BLAKE3 digests of its blocks, one after the other: so a file is read once, block by block, and both
what has changed and what is to be written here follow from it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from attrs import frozen
from blake3 import blake3

from lifecycle.errors import CorruptCheckpointError

SCHEMA: Final = 2
MAX_BYTES: Final = 256 << 20
AREAS: Final = frozenset({"checkpoint", "output"})
"""The folders of a job's directory that a manifest's files lie in."""
DIGEST_BYTES: Final = 32
MAX_CHUNK_BYTES: Final = 1 << 20


@frozen
class Extent:
    """A piece of a file: whole blocks of it, and where they lie.

    Attributes:
        pack: The key of the object that holds it.
        offset: Where in the pack it stands, or, compressed, where its zstd frame does; in bytes.
        length: Bytes of the file.
        digest: Of its blocks, hexadecimal.
        stored: The length of the frame; None if the bytes lie there as they are.
        skip: Bytes of the decompressed frame that come before.
    """

    pack: str
    offset: int
    length: int
    digest: str
    stored: int | None = None
    skip: int = 0

    @property
    def span(self) -> int:
        """How many bytes of the pack are needed for it."""
        return self.length if self.stored is None else self.stored


@frozen
class FileEntry:
    """A file: path in the job's directory, size in bytes, permission bits, block size in bytes, digest, pieces."""

    path: str
    size: int
    mode: int
    block: int
    digest: str
    extents: tuple[Extent, ...]

    def has_same_content(self, other: "FileEntry") -> bool:
        """Whether it is the same file with the same bytes, wherever those lie."""
        return (self.path, self.size, self.mode, self.digest) == (other.path, other.size, other.mode, other.digest)


@frozen
class Manifest:
    """A job's files at one moment.

    Attributes:
        job: The job that it belongs to.
        epoch: The attempt that wrote it.
        seq: The snapshot's number.
        step: How far the workload was, if it said.
        packs: The size of each pack that the files' extents name, in bytes, by key.
        files: In path order, each path once.
    """

    job: str
    epoch: int
    seq: int
    step: int | None
    packs: Mapping[str, int]
    files: tuple[FileEntry, ...]

    @property
    def bytes(self) -> int:
        """The size of all files, in bytes."""
        return sum(entry.size for entry in self.files)


def digest_bytes(body: bytes) -> str:
    """The digest of an object that is small, like a manifest: `blake3:<hex>`."""
    return f"blake3:{blake3(body).hexdigest()}"


def digest_chunks(digests: bytes | bytearray | memoryview) -> str:
    """The digest of a run of blocks, whose own digests are given one after the other: hexadecimal."""
    return blake3(digests).hexdigest()


def is_safe_path(path: str) -> bool:
    """Whether *path* stays inside the directory it is joined to: relative, plain, without `.`, `..` or NUL."""
    return (
        bool(path)
        and "\0" not in path
        and not path.startswith("/")
        and all(part not in {"", ".", ".."} for part in path.split("/"))
        and str(PurePosixPath(path)) == path
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """*manifest* as it lies in the bucket."""
    numbers = {pack: number for number, pack in enumerate(manifest.packs)}

    def wire(extent: Extent) -> list[int | str]:
        raw: list[int | str] = [numbers[extent.pack], extent.offset, extent.length, extent.digest]
        return raw if extent.stored is None else [*raw, extent.stored, extent.skip]

    body = {
        "schema": SCHEMA,
        "job": manifest.job,
        "epoch": manifest.epoch,
        "seq": manifest.seq,
        "step": manifest.step,
        "packs": list(manifest.packs.items()),
        "files": [
            {
                "path": entry.path,
                "size": entry.size,
                "mode": entry.mode,
                "block": entry.block,
                "digest": entry.digest,
                "extents": [wire(extent) for extent in entry.extents],
            }
            for entry in manifest.files
        ],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def decode_manifest(body: bytes) -> Manifest:
    """The manifest that lies in the bucket as *body*.

    Raises:
        CorruptCheckpointError: It is no manifest, its numbers do not add up, or a path would leave its directory.
    """
    try:
        raw = json.loads(body)
        schema = raw["schema"]
        manifest = _manifest(raw) if schema == SCHEMA else None
    except Exception as error:
        raise CorruptCheckpointError(f"a manifest cannot be read: {error!r:.200}") from error
    if manifest is None:
        raise CorruptCheckpointError(f"a manifest has schema {schema!r:.40}; this Holdfast reads {SCHEMA}")
    paths = set()
    for entry in manifest.files:
        if not is_safe_path(entry.path) or entry.path.partition("/")[0] not in AREAS or entry.path in paths:
            raise CorruptCheckpointError(
                f"a manifest names the path {entry.path!r:.80}, which is unsafe or there twice"
            )
        paths.add(entry.path)
        if not _adds_up(entry, manifest.packs):
            raise CorruptCheckpointError(f"a manifest's pieces of {entry.path!r:.80} do not add up")
    return manifest


def _manifest(raw: Mapping[str, Any]) -> Manifest:
    packs = [(_text(key), _count(size)) for key, size in raw["packs"]]
    return Manifest(
        job=_text(raw["job"]),
        epoch=_count(raw["epoch"]),
        seq=_count(raw["seq"]),
        step=None if raw["step"] is None else _whole(raw["step"]),
        packs=dict(packs),
        files=tuple(_entry(file, packs) for file in raw["files"]),
    )


def _entry(raw: Mapping[str, Any], packs: Sequence[tuple[str, int]]) -> FileEntry:
    return FileEntry(
        path=_text(raw["path"]),
        size=_count(raw["size"]),
        mode=_count(raw["mode"]),
        block=_count(raw["block"]),
        digest=_text(raw["digest"]),
        extents=tuple(_extent(wire, packs) for wire in raw["extents"]),
    )


def _extent(wire: Sequence[Any], packs: Sequence[tuple[str, int]]) -> Extent:
    pack, offset, length, digest, *frame = wire
    stored, skip = frame or (None, 0)
    return Extent(
        pack=packs[_count(pack)][0],
        offset=_count(offset),
        length=_count(length),
        digest=_text(digest),
        stored=None if stored is None else _count(stored),
        skip=_count(skip),
    )


def _adds_up(entry: FileEntry, packs: Mapping[str, int]) -> bool:
    return (
        0 < entry.block <= MAX_CHUNK_BYTES
        and all(extent.length % entry.block == 0 for extent in entry.extents[:-1])
        and all(extent.length > 0 and extent.offset + extent.span <= packs[extent.pack] for extent in entry.extents)
        and sum(extent.length for extent in entry.extents) == entry.size
    )


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"expected text, got {value!r:.40}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {value!r:.40}")
    return value


def _count(value: Any) -> int:
    if _whole(value) < 0:
        raise ValueError(f"expected a number from 0 on, got {value!r:.40}")
    return int(value)
