"""Files that are said to only grow, and do not: OpenMM's DCD and HDF5 have a header that is written again."""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from lifecycle.checkpoint.chunks import BaseCheckpoint, ChunkRun, chunk_digests
from lifecycle.checkpoint.manifest import DIGEST_BYTES
from lifecycle.checkpoint.snapshot import SnapshotFile
from lifecycle.checkpoint.tree import open_file
from lifecycle.errors import RewrittenFileError

CHANGED: Final = "the part that was saved before has changed, though it is said to only grow"


def ensure_grown(files: Iterable[SnapshotFile], last: BaseCheckpoint, *, resumed: bool) -> None:
    """Check that growing files still begin with what the last checkpoint holds, by its first and its last chunk.

    Args:
        files: Files of a snapshot.
        last: The last checkpoint.
        resumed: Whether an earlier attempt committed it. A program that resumes cuts its logs back to its state and
            writes their ends again, perhaps with other times in them, so then only the beginning counts.

    Raises:
        RewrittenFileError: Some do not. It names all of them.
        OSError: A file cannot be read.
    """
    changed = [
        file.path for file in files if file.grows and _has_changed(file, last.runs.get(file.path, ()), resumed=resumed)
    ]
    if changed:
        raise RewrittenFileError(CHANGED, changed)


def _has_changed(file: SnapshotFile, known: Sequence[ChunkRun], *, resumed: bool) -> bool:
    if not known:
        return False
    chunk_bytes, size = known[0].chunk_bytes, sum(run.extent.length for run in known)
    last = (size - 1) // chunk_bytes * chunk_bytes
    expected = {0: known[0].digests[:DIGEST_BYTES], last: known[-1].digests[-DIGEST_BYTES:]}
    with open_file(file.source) as reader:
        for offset, digest in expected.items():
            end = min(offset + chunk_bytes, size)
            if end > file.size or (resumed and (offset or end == size)):
                continue
            content = memoryview(os.pread(reader.fileno(), end - offset, offset))
            if chunk_digests(content, chunk_bytes) != digest:
                return True
    return False
