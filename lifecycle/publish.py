"""Publishing: a completed job's outputs as plain files, copied within the bucket from the packs that hold them.

Only after the record says completed, and only what the record's manifest names, so it does not matter who does it, how
often, or how many at once.
"""

from urllib.parse import quote

from attrs import evolve

from lifecycle.errors import CorruptCheckpointError
from lifecycle.keys import JobKeys
from lifecycle.manifest import FileEntry
from lifecycle.ports.store import ObjectStore
from lifecycle.record import JobRecord, Result
from lifecycle.restore import fetch_manifest

DEMO_OUTPUT = "output.txt"


def publish(store: ObjectStore, keys: JobKeys, record: JobRecord) -> None:
    """Make the outputs of *record*, which is completed, lie under `output/`. Safe to repeat.

    Raises:
        RetryableError: Some may be missing; repeat it, or let the next receiver of the message do so.
        CorruptCheckpointError: A committed object is missing: nothing will bring it back.
    """
    if record.result is None:
        return
    for entry in fetch_manifest(store, record.result.manifest).files:
        _publish_file(store, entry, f"{keys.output}{_ascii(entry.path)}")
        if record.demo and entry.path == DEMO_OUTPUT:
            _publish_file(store, entry, f"{keys.folder}{DEMO_OUTPUT}")


def published(record: JobRecord) -> JobRecord:
    """*record*, saying that its outputs are published."""
    result: Result | None = record.result
    return evolve(record, result=evolve(result, published=True)) if result else record


def unpublishable(record: JobRecord, why: str) -> JobRecord:
    """*record*, saying that its outputs never will be published: what is left of them is for people to see."""
    result: Result | None = record.result
    return evolve(record, result=evolve(result, problem=why), error=why) if result else record


def _ascii(path: str) -> str:
    """A file's path as part of a key, which is ASCII: as it is, or percent-encoded."""
    return path if path.isascii() else quote(path.encode("utf-8", "surrogateescape"), safe="/")


def _publish_file(store: ObjectStore, entry: FileEntry, target: str) -> None:
    match entry.extents:
        case ():
            store.put(target, b"")
        case (extent,) if extent.offset == 0:
            if not store.copy(extent.pack, target):
                raise CorruptCheckpointError(f"{extent.pack}, which holds {entry.path}, is missing")
        case _:
            raise CorruptCheckpointError(f"{entry.path} lies in more pieces than this Holdfast can publish")
