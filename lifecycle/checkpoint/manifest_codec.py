"""Encoding of manifests: JSON, UTF-8, and compact, because one is sent with every checkpoint.

::

    {"schema": 3, "job": "j", "epoch": 3, "seq": 7, "step": 70, "quality": "announced", "announces": true,
     "packs": [["prefix/j/packs/e3/00000012-9c41d0e7", 16777216], …],
     "files": [{"path": "checkpoint/state.bin", "size": 40000, "mode": 420, "mtime": 1764300000000000000,
                "block": 16384, "digest": "…",
                "extents": [[0, 4096, 32768, "…"], [0, 36864, 7232, "…", 900, 0]]}, …],
     "directories": [["checkpoint/logs", 493, 1764300000000000000], …],
     "symlinks": [["checkpoint/last.ckpt", "epoch=7.ckpt", 1764300000000000000], …],
     "hard_links": [["checkpoint/best.bin", "checkpoint/state.bin"], …], "in_place": ["checkpoint/state.bin", …]}

The bytes of a file are the bytes of its extents, in order. An extent is a list of: the index of its pack in "packs", or
null for a hole; the offset in the pack; its length in bytes of the file; its digest; and if the pack holds it
compressed, the length of the zstd frame at the offset, and the number of decompressed bytes to skip. "block" is the
size of the file's chunks. Times are in ns. "quality" is a `Quality`, or null if it is not known.

A path or the text of a link is a string, or, if its bytes are not UTF-8, `{"hex": "…"}`.

Schema 2 has neither times, holes, directories, links nor qualities.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lifecycle.bounds import LARGEST_INTEGER
from lifecycle.checkpoint.manifest import (
    AREAS,
    HOLE,
    MAX_CHUNK_BYTES,
    DirectoryEntry,
    Extent,
    FileEntry,
    HardLinkEntry,
    Manifest,
    Quality,
    SymlinkEntry,
    is_safe_path,
    parents_of,
    paths_of,
)
from lifecycle.errors import CorruptCheckpointError, NewerManifestError

SCHEMA: Final = 3
OLDEST_SCHEMA: Final = 2
MAX_CHUNKS: Final = 1 << 26  # of a file: their digests take 2 GiB; a damaged manifest must not ask for more
MAX_NAME_BYTES: Final = 255  # NAME_MAX of Linux file systems
MAX_PARTS: Final = 256  # of a path; a scan goes 200 deep
MAX_MODE: Final = 0o7777
TIME_LIMIT_NS: Final = 1 << 63


def encode_manifest(manifest: Manifest) -> bytes:
    """Return *manifest* as JSON."""
    indices = {pack: index for index, pack in enumerate(manifest.packs)}

    def encode_extent(extent: Extent) -> list[int | str | None]:
        pack = None if extent.pack == HOLE else indices[extent.pack]
        raw: list[int | str | None] = [pack, extent.offset, extent.length, extent.digest]
        return raw if extent.frame_length is None else [*raw, extent.frame_length, extent.skip]

    body = {
        "schema": SCHEMA,
        "job": manifest.job,
        "epoch": manifest.epoch,
        "seq": manifest.seq,
        "step": manifest.step,
        "quality": manifest.quality,
        "announces": manifest.announces,
        "packs": [[pack, size] for pack, size in manifest.packs.items()],
        "files": [
            {
                "path": _encode_name(entry.path),
                "size": entry.size,
                "mode": entry.mode,
                "mtime": entry.mtime_ns,
                "block": entry.chunk_bytes,
                "digest": entry.digest,
                "extents": [encode_extent(extent) for extent in entry.extents],
            }
            for entry in manifest.files
        ],
        "directories": [[_encode_name(entry.path), entry.mode, entry.mtime_ns] for entry in manifest.directories],
        "symlinks": [
            [_encode_name(entry.path), _encode_name(entry.target), entry.mtime_ns] for entry in manifest.symlinks
        ],
        "hard_links": [[_encode_name(entry.path), _encode_name(entry.target)] for entry in manifest.hard_links],
        "in_place": [_encode_name(path) for path in manifest.in_place],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def decode_manifest(body: bytes) -> Manifest:
    """Return the manifest that was encoded as *body*.

    Raises:
        NewerManifestError: A newer Holdfast wrote it.
        CorruptCheckpointError: It is not a manifest, its sizes are inconsistent, or a path would leave the job's
            directory.
    """
    try:
        raw = json.loads(body)
        schema = _whole(raw["schema"])
        manifest = _manifest(raw, schema) if OLDEST_SCHEMA <= schema <= SCHEMA else None
    except Exception as error:
        raise CorruptCheckpointError(f"a manifest cannot be read: {error!r:.200}") from error
    if schema > SCHEMA:
        raise NewerManifestError(f"a manifest has schema {schema}, and this Holdfast reads up to {SCHEMA}: update it")
    if manifest is None:
        raise CorruptCheckpointError(f"a manifest has schema {schema!r:.40}, which never existed")
    _ensure_paths(manifest)
    for entry in manifest.files:
        if not _adds_up(entry, manifest.packs):
            raise CorruptCheckpointError(f"a manifest's extents of {entry.path!r:.80} do not add up")
    return manifest


def _ensure_paths(manifest: Manifest) -> None:
    """Check that every path is inside, occurs once, and has nothing but directories on the way."""
    folders = [entry.path for entry in manifest.directories]
    areas = [path for path in folders if path in AREAS]
    below = list(paths_of(manifest.files, manifest.symlinks, manifest.hard_links))
    below += [path for path in folders if path not in AREAS]
    for path in below:
        if not is_safe_path(path) or path.partition("/")[0] not in AREAS or path in AREAS:
            raise CorruptCheckpointError(f"a manifest has an unsafe or repeated path: {path!r:.80}")
        parts = path.split("/")
        if len(parts) > MAX_PARTS or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts):
            raise CorruptCheckpointError(f"a manifest has a path that no disk can hold: {path!r:.80}")
    if len({*areas, *below}) < len(areas) + len(below):
        raise CorruptCheckpointError("a manifest has an unsafe or repeated path: one occurs twice")
    leaves = manifest.leaves
    parents = {path.rpartition("/")[0] for path in below}
    if misplaced := leaves & {folder for parent in parents for folder in (parent, *parents_of(parent))}:
        raise CorruptCheckpointError(f"a manifest has a file where it has a directory: {min(misplaced)!r:.80}")
    files = {entry.path for entry in manifest.files}
    if any(entry.target not in files for entry in manifest.hard_links):
        raise CorruptCheckpointError("a manifest has a hard link to a file that it does not have")
    if any(not entry.target or "\0" in entry.target for entry in manifest.symlinks):
        raise CorruptCheckpointError("a manifest has a link without a target")


def _manifest(raw: Mapping[str, Any], schema: int) -> Manifest:
    packs = [(_text(key), _count(size)) for key, size in raw["packs"]]
    manifest = Manifest(
        job=_text(raw["job"]),
        epoch=_count(raw["epoch"]),
        seq=_count(raw["seq"]),
        step=None if raw["step"] is None else _whole(raw["step"]),
        packs=dict(packs),
        files=tuple(_file(file, packs, schema) for file in raw["files"]),
    )
    if schema == OLDEST_SCHEMA:
        return manifest
    return Manifest(
        manifest.job,
        manifest.epoch,
        manifest.seq,
        manifest.step,
        manifest.packs,
        manifest.files,
        tuple(DirectoryEntry(_name(path), _mode(mode), _time(time)) for path, mode, time in raw["directories"]),
        tuple(SymlinkEntry(_name(path), _name(target), _time(time)) for path, target, time in raw["symlinks"]),
        tuple(HardLinkEntry(_name(path), _name(target)) for path, target in raw["hard_links"]),
        quality=_quality(raw.get("quality")),
        announces=raw.get("announces") is True,
        in_place=tuple(_name(path) for path in raw.get("in_place", ())),
    )


def _file(raw: Mapping[str, Any], packs: Sequence[tuple[str, int]], schema: int) -> FileEntry:
    mtime = None if schema == OLDEST_SCHEMA else raw["mtime"]
    return FileEntry(
        path=_name(raw["path"]),
        size=_count(raw["size"]),
        mode=_mode(raw["mode"]),
        chunk_bytes=_count(raw["block"]),
        digest=_text(raw["digest"]),
        extents=tuple(_extent(extent, packs) for extent in raw["extents"]),
        mtime_ns=None if mtime is None else _time(mtime),
    )


def _extent(raw: Sequence[Any], packs: Sequence[tuple[str, int]]) -> Extent:
    pack, offset, length, digest, *frame = raw
    frame_length, skip = frame or (None, 0)
    return Extent(
        pack=HOLE if pack is None else packs[_count(pack)][0],
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
        and entry.size <= entry.chunk_bytes * MAX_CHUNKS
        and all(extent.length % entry.chunk_bytes == 0 for extent in entry.extents[:-1])
        and all(_lies_inside(extent, packs) for extent in entry.extents)
        and sum(extent.length for extent in entry.extents) == entry.size
    )


def _lies_inside(extent: Extent, packs: Mapping[str, int]) -> bool:
    if extent.pack == HOLE:
        return extent.length > 0 and extent.frame_length is None
    return extent.length > 0 and extent.offset + extent.span <= packs[extent.pack]


def _encode_name(name: str) -> str | dict[str, str]:
    encoded = os.fsencode(name)
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return {"hex": encoded.hex()}


def _name(value: Any) -> str:
    """Return a name as Python has it: its bytes, decoded with surrogate escapes."""
    if type(value) is dict:
        return os.fsdecode(bytes.fromhex(value["hex"]))
    return os.fsdecode(_text(value).encode(errors="surrogateescape"))


def _quality(value: Any) -> Quality | None:
    """Return a quality; None for one that this version does not know, which is no reason to refuse the checkpoint."""
    return Quality(value) if value in list(Quality) else None


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"expected text, got {value!r:.40}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {value!r:.40}")
    return value


def _count(value: Any) -> int:
    if not 0 <= _whole(value) <= LARGEST_INTEGER:
        raise ValueError(f"expected a whole number from 0 to 2^53, got {value!r:.40}")
    return int(value)


def _mode(value: Any) -> int:
    if _count(value) > MAX_MODE:
        raise ValueError(f"expected the mode of a file, got {value!r:.40}")
    return int(value)


def _time(value: Any) -> int:
    if not -TIME_LIMIT_NS <= _whole(value) < TIME_LIMIT_NS:
        raise ValueError(f"expected a time in ns, got {value!r:.40}")
    return int(value)
