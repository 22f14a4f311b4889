"""The manifest: the files of a checkpoint or of a result, and where their bytes are stored. Never changed.

It is JSON, UTF-8, and compact, because one is sent with every checkpoint::

    {"schema": 2, "job": "j", "epoch": 3, "seq": 7, "step": 70,
     "packs": [["prefix/j/packs/e3/00000012-9c41d0e7", 16777216], …],
     "files": [{"path": "checkpoint/state.bin", "size": 40000, "mode": 420, "block": 16384, "digest": "…",
                "extents": [[0, 4096, 32768, "…"], [0, 36864, 7232, "…", 900, 0]]}, …]}

A path is relative to the job's directory, and begins with `checkpoint/` or `output/`. The bytes of a file are the bytes
of its extents, in order. An extent is a list of: the index of its pack in "packs", the offset in the pack, its length
in bytes of the file, and its digest; and if the pack holds it compressed, the length of the zstd frame at the offset,
and the number of decompressed bytes to skip.

A file is cut into chunks of "block" bytes; only the last may be shorter. The digest of several chunks (an extent, a
file) is the BLAKE3 of their BLAKE3 digests, concatenated. So one pass over a file, chunk by chunk, finds what has
changed and computes every digest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from attrs import frozen
from blake3 import blake3

from lifecycle.errors import CorruptCheckpointError

SCHEMA: Final = 2
AREAS: Final = frozenset({"checkpoint", "output"})
"""Folders of a job's directory whose files a manifest may contain."""
DIGEST_BYTES: Final = 32
MAX_CHUNK_BYTES: Final = 1 << 20


@frozen
class Extent:
    """Consecutive chunks of a file that are stored together in a pack.

    Attributes:
        pack: Key of the pack.
        offset: Offset in the pack, in bytes: of the chunks, or of the zstd frame that holds them.
        length: Length in bytes of the file.
        digest: Digest of the chunks, hexadecimal.
        frame_length: Length of the zstd frame, in bytes; None if the chunks are stored uncompressed.
        skip: Decompressed bytes of the frame that precede the chunks.
    """

    pack: str
    offset: int
    length: int
    digest: str
    frame_length: int | None = None
    skip: int = 0

    @property
    def span(self) -> int:
        """Length of the range of the pack that has to be read, in bytes."""
        return self.length if self.frame_length is None else self.frame_length


@frozen
class FileEntry:
    """A file of a manifest.

    Attributes:
        path: Path in the job's directory.
        size: Size in bytes.
        mode: Permission bits.
        chunk_bytes: Size of its chunks in bytes ("block" in the JSON).
        digest: Digest of its chunks, hexadecimal.
        extents: Where its bytes are stored, in order.
    """

    path: str
    size: int
    mode: int
    chunk_bytes: int
    digest: str
    extents: tuple[Extent, ...]

    def has_same_content(self, other: "FileEntry") -> bool:
        """Return whether *other* is the same file with the same bytes, wherever those are stored."""
        return (self.path, self.size, self.mode, self.digest) == (other.path, other.size, other.mode, other.digest)


@frozen
class Manifest:
    """The files of a job at one moment.

    Attributes:
        job: The job's id.
        epoch: Number of the attempt that wrote it.
        seq: Number of the snapshot.
        step: Number of steps done when it was captured; None if the workload did not say.
        packs: Size in bytes of each pack that the files refer to, by key.
        files: The files in order of their paths, each path once.
    """

    job: str
    epoch: int
    seq: int
    step: int | None
    packs: Mapping[str, int]
    files: tuple[FileEntry, ...]

    @property
    def bytes(self) -> int:
        """Total size of the files, in bytes."""
        return sum(entry.size for entry in self.files)


def digest_bytes(body: bytes) -> str:
    """Return the digest of a small object, such as a manifest: `blake3:<hex>`."""
    return f"blake3:{blake3(body).hexdigest()}"


def digest_chunks(digests: bytes | bytearray | memoryview) -> str:
    """Return the digest of several chunks, hexadecimal. *digests* are those of each, concatenated."""
    return blake3(digests).hexdigest()


def is_safe_path(path: str) -> bool:
    """Return whether *path* stays inside the directory it is joined to: relative, plain, no `.`, `..` or NUL."""
    return (
        bool(path)
        and "\0" not in path
        and not path.startswith("/")
        and all(part not in {"", ".", ".."} for part in path.split("/"))
        and str(PurePosixPath(path)) == path
    )


def parents_of(path: str) -> Iterator[str]:
    """Yield the directories that contain *path*, the innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def encode_manifest(manifest: Manifest) -> bytes:
    """Return *manifest* as JSON."""
    indices = {pack: index for index, pack in enumerate(manifest.packs)}

    def encode_extent(extent: Extent) -> list[int | str]:
        raw: list[int | str] = [indices[extent.pack], extent.offset, extent.length, extent.digest]
        return raw if extent.frame_length is None else [*raw, extent.frame_length, extent.skip]

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
                "block": entry.chunk_bytes,
                "digest": entry.digest,
                "extents": [encode_extent(extent) for extent in entry.extents],
            }
            for entry in manifest.files
        ],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def decode_manifest(body: bytes) -> Manifest:
    """Return the manifest that was encoded as *body*.

    Raises:
        CorruptCheckpointError: It is not a manifest, its sizes are inconsistent, or a path would leave the job's
            directory.
    """
    try:
        raw = json.loads(body)
        schema = raw["schema"]
        manifest = _manifest(raw) if schema == SCHEMA else None
    except Exception as error:
        raise CorruptCheckpointError(f"a manifest cannot be read: {error!r:.200}") from error
    if manifest is None:
        raise CorruptCheckpointError(f"a manifest has schema {schema!r:.40}; this Holdfast reads {SCHEMA}")
    paths, parents = set(), set()
    for entry in manifest.files:
        if not is_safe_path(entry.path) or entry.path.partition("/")[0] not in AREAS or entry.path in paths:
            raise CorruptCheckpointError(f"a manifest has an unsafe or repeated path: {entry.path!r:.80}")
        paths.add(entry.path)
        parents.add(entry.path.rpartition("/")[0])
        if not _adds_up(entry, manifest.packs):
            raise CorruptCheckpointError(f"a manifest's extents of {entry.path!r:.80} do not add up")
    if misplaced := {folder for parent in parents for folder in (parent, *parents_of(parent))} & paths:
        raise CorruptCheckpointError(f"a manifest has a file where it has a directory: {min(misplaced)!r:.80}")
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
        chunk_bytes=_count(raw["block"]),
        digest=_text(raw["digest"]),
        extents=tuple(_extent(extent, packs) for extent in raw["extents"]),
    )


def _extent(raw: Sequence[Any], packs: Sequence[tuple[str, int]]) -> Extent:
    pack, offset, length, digest, *frame = raw
    frame_length, skip = frame or (None, 0)
    return Extent(
        pack=packs[_count(pack)][0],
        offset=_count(offset),
        length=_count(length),
        digest=_text(digest),
        frame_length=None if frame_length is None else _count(frame_length),
        skip=_count(skip),
    )


def _adds_up(entry: FileEntry, packs: Mapping[str, int]) -> bool:
    """Return whether the extents make up the file, consist of whole chunks, and lie inside their packs."""
    return (
        0 < entry.chunk_bytes <= MAX_CHUNK_BYTES
        and all(extent.length % entry.chunk_bytes == 0 for extent in entry.extents[:-1])
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
        raise ValueError(f"expected a whole number from 0, got {value!r:.40}")
    return int(value)
