"""The manifest: which files a checkpoint (or a result) consists of, and where their bytes lie. Immutable once written.

JSON, UTF-8: `{schema, job, epoch, seq, step, files: [{path, size, mode, digest, extents: [{pack, offset, length,
digest}]}]}`. A file's bytes are its extents' bytes in order. Digests are `sha256:<hex>`.
"""

import hashlib
import json
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final

import cattrs
from attrs import asdict, field, frozen

from lifecycle.errors import CorruptCheckpointError
from lifecycle.strict import strict_converter

SCHEMA: Final = 1
MAX_BYTES: Final = 256 << 20
_CHUNK: Final = 1 << 20


@frozen
class Extent:
    """A piece of a file: *length* bytes from *offset* of *pack* (a key), with their digest."""

    pack: str
    offset: int
    length: int
    digest: str


@frozen
class FileEntry:
    """A file: path relative to the directory (`/` between parts), size in bytes, permission bits, digest, pieces."""

    path: str
    size: int
    mode: int
    digest: str
    extents: tuple[Extent, ...]


@frozen
class Manifest:
    """A directory's files at one moment.

    Attributes:
        job: The job that it belongs to.
        epoch: The attempt that wrote it.
        seq: The snapshot's number.
        step: How far the workload was, if it said.
        files: In path order, each path once.
    """

    job: str
    epoch: int
    seq: int
    step: int | None = None
    files: tuple[FileEntry, ...] = field(default=())

    @property
    def bytes(self) -> int:
        """The size of all files, in bytes."""
        return sum(entry.size for entry in self.files)

    @property
    def packs(self) -> frozenset[str]:
        """The keys of all packs that it names."""
        return frozenset(extent.pack for entry in self.files for extent in entry.extents)


def digest_bytes(body: bytes) -> str:
    """The digest of *body*."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def digest_file(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def is_safe_path(path: str) -> bool:
    """Whether *path* stays inside the directory it is joined to: relative, plain, without `.`, `..` or NUL."""
    return (
        bool(path)
        and "\0" not in path
        and not path.startswith("/")
        and all(part not in {"", ".", ".."} for part in path.split("/"))
        and str(PurePosixPath(path)) == path
    )


def encode(manifest: Manifest) -> bytes:
    """*manifest* as it lies in the bucket."""
    return json.dumps({"schema": SCHEMA, **asdict(manifest)}, separators=(",", ":")).encode()


@cache
def _converter() -> cattrs.Converter:
    return strict_converter()


def decode(body: bytes) -> Manifest:
    """The manifest that lies in the bucket as *body*.

    Raises:
        CorruptCheckpointError: It is no manifest, its numbers do not add up, or a path would leave its directory.
    """
    try:
        raw = json.loads(body)
        schema = raw.pop("schema")
        manifest: Manifest = _converter().structure(raw, Manifest)
    except Exception as error:
        raise CorruptCheckpointError(f"a manifest cannot be read: {error!r:.200}") from error
    if schema != SCHEMA:
        raise CorruptCheckpointError(f"a manifest has schema {schema!r:.40}; this Holdfast reads {SCHEMA}")
    paths = set()
    for entry in manifest.files:
        if not is_safe_path(entry.path) or entry.path in paths:
            raise CorruptCheckpointError(
                f"a manifest names the path {entry.path!r:.80}, which is unsafe or there twice"
            )
        paths.add(entry.path)
        if any(extent.offset < 0 or extent.length < 0 for extent in entry.extents) or entry.size != sum(
            extent.length for extent in entry.extents
        ):
            raise CorruptCheckpointError(f"a manifest's pieces of {entry.path!r:.80} do not add up to its size")
    return manifest
