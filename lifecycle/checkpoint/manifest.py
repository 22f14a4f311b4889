"""The manifest: everything in a checkpoint or in a result, and where its bytes are stored. Never changed.

`lifecycle.checkpoint.manifest_codec` encodes it. A path is relative to the job's directory, and begins with
`checkpoint/` or `output/`; bytes that are not UTF-8 are in it as Python's surrogate escapes.

A file is cut into chunks of equal size; only the last may be shorter. The digest of several chunks (an extent, a file)
is the BLAKE3 of their BLAKE3 digests, concatenated. So one pass over a file, chunk by chunk, finds what has changed and
computes every digest.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final, Protocol

from attrs import field, frozen
from blake3 import blake3

AREAS: Final = frozenset({"checkpoint", "output"})
"""Folders of a job's directory whose files a manifest may contain."""
DIGEST_BYTES: Final = 32
MAX_CHUNK_BYTES: Final = 1 << 20
HOLE: Final = ""
"""In place of the key of a pack, for chunks of zeros: nothing of them is stored."""
MODE_BITS: Final = 0o1777
"""Bits of a mode that are kept: not setuid and setgid."""


class Quality(StrEnum):
    """Way in which the files of a checkpoint were captured, and so its worth. The best comes first."""

    ANNOUNCED = "announced"
    """The program said that it is whole."""
    EXITED = "exited"
    """The program left it behind, and exited with a code that means *saved* or *done*."""
    QUIET = "quiet"
    """No file changed for a while. The files may be of two moments, if the program pauses between writing them."""
    FROZEN = "frozen"
    """Every process was stopped or dead. It is the state that a power cut would have left."""


@frozen
class Extent:
    """Consecutive chunks of a file that are stored together in a pack.

    Attributes:
        pack: Key of the pack; HOLE if all bytes are zero.
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
        mtime_ns: Time of its last change, in ns since the epoch; None if unknown (schema 2).
    """

    path: str
    size: int
    mode: int
    chunk_bytes: int
    digest: str
    extents: tuple[Extent, ...]
    mtime_ns: int | None = None

    def has_same_content(self, other: "FileEntry") -> bool:
        """Return whether *other* is the same file with the same bytes, wherever those are stored."""
        return (self.path, self.size, self.mode, self.digest) == (other.path, other.size, other.mode, other.digest)


@frozen
class DirectoryEntry:
    """A directory of a manifest. Directories that contain other entries need none, and then have no mode and time.

    Attributes:
        path: Path in the job's directory; may be `checkpoint` or `output` itself.
        mode: Permission bits.
        mtime_ns: Time of its last change, in ns since the epoch.
    """

    path: str
    mode: int
    mtime_ns: int


@frozen
class SymlinkEntry:
    """A symbolic link of a manifest.

    Attributes:
        path: Path in the job's directory.
        target: Its text, wherever that leads.
        mtime_ns: Time of its last change, in ns since the epoch.
    """

    path: str
    target: str
    mtime_ns: int


@frozen
class HardLinkEntry:
    """Another name of a file of the same manifest.

    Attributes:
        path: Path in the job's directory.
        target: Path of the file.
    """

    path: str
    target: str


class Placed(Protocol):
    """Anything that has a path in the job's directory."""

    @property
    def path(self) -> str:
        """The path."""


def paths_of(*groups: Iterable[Placed]) -> Iterator[str]:
    """Yield the paths of all entries of *groups*."""
    return (entry.path for group in groups for entry in group)


@frozen
class Manifest:
    """The files of a job at one moment.

    Attributes:
        job: The job's id.
        epoch: Number of the attempt that wrote it.
        seq: Number of the snapshot.
        step: Number of steps done when it was captured; None if the workload did not say.
        packs: Size in bytes of each pack that the files refer to, by key.
        files: The files in order of their paths. Each path occurs once in the manifest.
        directories: The directories.
        symlinks: The symbolic links.
        hard_links: Further names of the files.
        quality: How the files were captured; None if unknown (schema 2).
        in_place: Paths of files that the program writes to in place, as far as known.
        announces: Whether the job has announced a checkpoint, this one or one before it.
    """

    job: str
    epoch: int
    seq: int
    step: int | None
    packs: Mapping[str, int]
    files: tuple[FileEntry, ...]
    directories: tuple[DirectoryEntry, ...] = ()
    symlinks: tuple[SymlinkEntry, ...] = ()
    hard_links: tuple[HardLinkEntry, ...] = ()
    quality: Quality | None = field(default=None, kw_only=True)
    announces: bool = field(default=False, kw_only=True)
    in_place: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def areas(self) -> frozenset[str]:
        """Folders of the job's directory in which it has entries."""
        return frozenset(path.partition("/")[0] for path in (*self.leaves, *paths_of(self.directories)))

    @property
    def leaves(self) -> frozenset[str]:
        """Paths of everything but directories."""
        return frozenset(paths_of(self.files, self.symlinks, self.hard_links))

    @property
    def folders(self) -> frozenset[str]:
        """Paths of all directories, those included that only contain other entries."""
        named = set(paths_of(self.directories))
        return frozenset(named.union(*map(parents_of, (*self.leaves, *named))))

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
    )


def parents_of(path: str) -> Iterator[str]:
    """Yield the directories that contain *path*, the innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
