"""Snapshots: the workload's files at one moment, on the node's own disk (`lifecycle.checkpoint.capture` takes them)."""

from pathlib import Path

from attrs import field, frozen

from lifecycle.checkpoint.manifest import DirectoryEntry, HardLinkEntry, Quality, SymlinkEntry
from lifecycle.checkpoint.tree import discard_tree
from lifecycle.errors import TornSnapshotError


@frozen
class SnapshotFile:
    """A file of a snapshot.

    Attributes:
        path: Path in the job's directory, with `/` between its parts.
        source: Where its bytes can be read.
        size: Number of bytes that belong to the snapshot.
        mode: Permission bits.
        mtime_ns: Time of its last change when it was captured, in ns.
        inode: Its inode; None if unknown.
        grows: Whether it may grow meanwhile.
    """

    path: str
    source: Path
    size: int
    mode: int
    mtime_ns: int
    inode: int | None = None
    grows: bool = False

    def torn_reason(self) -> str | None:
        """Return why the file no longer belongs to the snapshot's moment; None if it still does.

        Raises:
            OSError: It cannot be examined.
        """
        found = self.source.lstat()
        if self.inode not in {None, found.st_ino}:
            return "another file took its place while it was saved"
        if self.grows:
            return "it became shorter, though it is said to only grow" if found.st_size < self.size else None
        is_same = (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)
        return None if is_same else "it was written to while it was saved"


@frozen
class Snapshot:
    """A capture of the workload's files.

    Attributes:
        seq: Its number; increases over all attempts of the job.
        step: Number of steps done when it was captured; None if the workload did not say.
        directory: Directory that holds it, used by nothing else.
        files: Its files, in order of their paths.
        directories: Its directories, likewise.
        symlinks: Its symbolic links, likewise.
        hard_links: Further names of its files, likewise.
        quality: How it was captured.
        in_place: Paths of files of it that the program writes to in place.
        skipped: Paths of what cannot be saved, such as pipes, or, if it is a result, published.
        is_last: Whether it is the attempt's last one, which is committed by the same write that ends the attempt.
        is_result: Whether it holds the outputs of a completed job, which are uploaded even if nothing in them is new.
    """

    seq: int
    step: int | None
    directory: Path
    files: tuple[SnapshotFile, ...] = field(default=(), repr=False)
    directories: tuple[DirectoryEntry, ...] = field(default=(), repr=False, kw_only=True)
    symlinks: tuple[SymlinkEntry, ...] = field(default=(), repr=False, kw_only=True)
    hard_links: tuple[HardLinkEntry, ...] = field(default=(), repr=False, kw_only=True)
    quality: Quality | None = field(default=None, kw_only=True)
    in_place: tuple[str, ...] = field(default=(), repr=False, kw_only=True)
    skipped: tuple[str, ...] = field(default=(), repr=False, kw_only=True)
    is_last: bool = False
    is_result: bool = False

    @property
    def bytes(self) -> int:
        """Total size of its files, in bytes."""
        return sum(file.size for file in self.files)

    def ensure_consistent(self) -> None:
        """Check, after everything has been read, that all files belong to one moment.

        Raises:
            TornSnapshotError: Some files have changed since they were captured. It names all of them.
            OSError: The files cannot be examined.
        """
        if torn := {file.path: why for file in self.files if (why := file.torn_reason())}:
            raise TornSnapshotError(next(iter(torn.values())), list(torn))

    def discard(self) -> None:
        """Remove it from the disk. Never fails; safe to repeat."""
        discard_tree(self.directory)
