"""Publishing: the outputs of a completed job as plain files, put together inside the bucket from the packs.

It happens only after the record says that the job is completed, and concerns only what the record's manifest refers to.
So it does not matter which worker does it, how often, or how many do it at once. Parts of a large file are copied
within the store if they are stored in one piece, which is the case if the file was saved in one go. Parts that were
saved bit by bit pass through this process, because R2 requires all parts but the last to have the same size
(https://developers.cloudflare.com/r2/objects/multipart-objects/; docs/adr/0013).
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final
from urllib.parse import quote

from attrs import evolve

from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES
from lifecycle.checkpoint.links import resolved_inside
from lifecycle.checkpoint.manifest import HOLE, FileEntry, Manifest
from lifecycle.checkpoint.reader import FileVerifier, PlacedExtent, placed_extents, read_extents, stored_extents
from lifecycle.checkpoint.restore import fetch_manifest
from lifecycle.errors import CorruptCheckpointError
from lifecycle.job_record import JobRecord, Result
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore, Range

DEMO_OUTPUT: Final = "output.txt"
MAX_LINKS: Final = 40  # that follow one another, as in Linux
MAX_PUT_BYTES: Final = 8 << 20  # a file up to this size is read and put in one piece
MAX_PARTS: Final = 10_000  # of one object: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


def publish(store: ObjectStore, clock: Clock, keys: JobKeys, record: JobRecord) -> None:
    """Publish the outputs of a completed job under `output/`. Safe to repeat.

    Args:
        store: The bucket.
        clock: Source of threads.
        keys: Keys of the job.
        record: Its record, in which the job is completed.

    Raises:
        RetryableError: Some outputs may be missing; repeat it, or leave it to the next receiver of the message.
        CorruptCheckpointError: A committed object is missing or damaged, and cannot be recovered.
        PermanentError: The store refuses a key of that name. The manifest still has the file.
    """
    if record.result is None:
        return
    for path, entry in published_files(fetch_manifest(store, record.result.manifest)):
        _publish_file(store, clock, entry, f"{keys.folder}{_ascii_key(path)}")
        if record.demo and path == f"output/{DEMO_OUTPUT}":
            _publish_file(store, clock, entry, f"{keys.folder}{DEMO_OUTPUT}")


def published_files(manifest: Manifest) -> Iterator[tuple[str, FileEntry]]:
    """Yield each path that becomes an object, with the file whose bytes it has.

    An object has one name and is not a link: hard links, and symbolic links to files of the same tree, become copies.
    Other links, and directories, do not become objects.
    """
    files = {entry.path: entry for entry in manifest.files}
    yield from files.items()
    for hard in manifest.hard_links:
        yield hard.path, files[hard.target]
    known = files | {hard.path: files[hard.target] for hard in manifest.hard_links}
    links, areas = {link.path: link.target for link in manifest.symlinks}, manifest.areas
    for path in links:
        end: str | None = path
        for _ in range(MAX_LINKS):
            if end not in links:
                break
            end = resolved_inside(end, links[end], areas)
        if end in known:
            yield path, known[end]


def with_published(record: JobRecord) -> JobRecord:
    """Return a copy of *record* that says its outputs are published."""
    result: Result | None = record.result
    return evolve(record, result=evolve(result, published=True)) if result else record


def with_publish_problem(record: JobRecord, why: str) -> JobRecord:
    """Return a copy of *record* that says its outputs can never be published, and *why*."""
    result: Result | None = record.result
    return evolve(record, result=evolve(result, problem=why), error=why) if result else record


def _ascii_key(path: str) -> str:
    """Return a path as part of a key: unchanged if it is ASCII, otherwise percent-encoded."""
    return path if path.isascii() else quote(path.encode("utf-8", "surrogateescape"), safe="/")


def _publish_file(store: ObjectStore, clock: Clock, entry: FileEntry, key: str) -> None:
    if entry.size <= MAX_PUT_BYTES:
        store.put(key, _content(store, clock, entry, 0, entry.size))
        return
    # Parts as long as packs, so that they can be copied; for huge files, as long as several packs.
    pack_bytes = DEFAULT_CHUNK_SIZES.pack_bytes
    part_bytes = pack_bytes * -(-entry.size // (pack_bytes * MAX_PARTS))
    edges = [*range(0, entry.size, part_bytes), entry.size]
    if not store.assemble(key, [_part(store, clock, entry, begin, end) for begin, end in pairwise(edges)]):
        raise CorruptCheckpointError(f"a pack that holds {entry.path} is missing")


def _part(store: ObjectStore, clock: Clock, entry: FileEntry, begin: int, end: int) -> Range | Callable[[], bytes]:
    """Return the range that holds the bytes *begin* to *end* of a file, or a function that reads them from several."""
    for placed in placed_extents(entry):
        extent = placed.extent
        is_raw = extent.frame_length is None and extent.pack != HOLE
        if is_raw and placed.start <= begin and end <= placed.start + extent.length:
            return Range(extent.pack, extent.offset + begin - placed.start, end - begin)
    return partial(_content, store, clock, entry, begin, end)


def _content(store: ObjectStore, clock: Clock, entry: FileEntry, begin: int, end: int) -> bytes:
    content, kept = bytearray(end - begin), _KeepingVerifier(entry)
    wanted = [
        placed for placed in stored_extents(entry) if placed.start < end and begin < placed.start + placed.extent.length
    ]
    read_extents(store, clock, [(kept, placed) for placed in wanted], check_interrupted=lambda: None)
    for placed in wanted:  # what is in between are holes
        first, last = max(placed.start, begin), min(placed.start + placed.extent.length, end)
        content[first - begin : last - begin] = kept.contents[placed.start][first - placed.start : last - placed.start]
    return bytes(content)


class _KeepingVerifier(FileVerifier):
    """Keeps what it has verified, by where it begins in the file."""

    def __init__(self, entry: FileEntry) -> None:
        super().__init__(entry)
        self.contents: dict[int, bytes] = {}

    def receive(self, placed: PlacedExtent, content: memoryview) -> None:
        """Verify the content of an extent (see `FileVerifier.receive`) and keep it."""
        super().receive(placed, content)
        self.contents[placed.start] = bytes(content)
