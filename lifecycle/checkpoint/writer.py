"""Uploading a snapshot: the chunks that the last committed checkpoint does not hold, in packs, and then the manifest.

Nothing that is uploaded counts until the record refers to the manifest. Every key is new and contains the epoch, so
what a superseded attempt may still upload ends up where nothing refers to it.

Large, small and growing files are treated alike. They are read once, chunk by chunk, and new chunks of all files go
into packs one after another. So the bytes sent follow the change, and the number of requests follows the bytes
(docs/adr/0010).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import frozen

from lifecycle.checkpoint.chunk_index import ChunkIndex
from lifecycle.checkpoint.chunker import ChunkedFile, Chunker
from lifecycle.checkpoint.chunks import BaseCheckpoint, ChunkRun, ChunkSizes
from lifecycle.checkpoint.growth import ensure_grown
from lifecycle.checkpoint.manifest import HOLE, DirectoryEntry, Manifest, Quality, SymlinkEntry, digest_bytes
from lifecycle.checkpoint.manifest_codec import encode_manifest
from lifecycle.checkpoint.packer import Packer
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.concurrency import RateLimiter
from lifecycle.errors import LeaseLostError
from lifecycle.job_record import CheckpointRef
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore

REWRITE_ABOVE: Final = 2.0  # times the live bytes: if more is stored, the sparsest packs are rewritten
REWRITE_UNTIL: Final = 1.75  # times the live bytes: until no more than this is stored


@frozen
class UploadedCheckpoint:
    """A checkpoint that is uploaded and not committed.

    Attributes:
        ref: Reference to it, for the record.
        base: The checkpoint, for the next upload to build on.
    """

    ref: CheckpointRef
    base: BaseCheckpoint

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self.base.manifest


class CheckpointWriter:
    """Uploads the snapshots of one attempt, one at a time. Used by one thread.

    Args:
        store: Where the checkpoints go.
        clock: Source of threads.
        keys: Keys of the job.
        epoch: Epoch of the attempt.
        token: Attempt token. If a job is purged and submitted again, another attempt may have the same epoch.
        chunk_sizes: Sizes of chunks, reads, frames and packs.
        limiter: Limit on the upload rate.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        *,
        keys: JobKeys,
        epoch: int,
        token: str,
        chunk_sizes: ChunkSizes,
        limiter: RateLimiter,
    ) -> None:
        self.store = store
        self._clock = clock
        self.keys = keys
        self.epoch = epoch
        self._token = token
        self._chunk_sizes = chunk_sizes
        self._limiter = limiter
        self.moved_at = 0.0
        """When the store last accepted something, by the monotonic clock; 0 if it has accepted nothing yet."""
        self._packs_named = 0
        self._reusable_runs: list[ChunkRun] = []
        self._reusable_packs: dict[str, int] = {}

    def upload(
        self, snapshot: Snapshot, last: BaseCheckpoint | None, *, check_interrupted: Callable[[], None]
    ) -> UploadedCheckpoint | None:
        """Upload *snapshot*.

        After an error, the snapshot can be uploaded again under another number. Packs that the store had accepted
        are then not sent again.

        Args:
            snapshot: What to upload.
            last: The last committed checkpoint, whose chunks are reused; None if there is none.
            check_interrupted: Called before each read; raises to give up.

        Returns:
            The uploaded checkpoint; None if *last* already holds exactly these files and the snapshot is no result.

        Raises:
            RetryableError: The store did not accept everything.
            TornSnapshotError: A file changed while it was read; take another snapshot. It is a `RewrittenFileError` if
                the file was said to only grow.
            OSError: The snapshot cannot be read.
        """
        packer = Packer(
            self.store,
            self._clock,
            new_key=self._new_pack,
            chunk_sizes=self._chunk_sizes,
            limiter=self._limiter,
            on_stored=self._on_stored,
        )
        chunker = Chunker(packer, self._chunk_sizes, self._index(last), check_interrupted)
        try:
            if last:
                ensure_grown(snapshot.files, last, resumed=last.manifest.epoch < self.epoch)
            files = [chunker.chunk_file(file) for file in snapshot.files]
            snapshot.ensure_consistent()
            if last and not snapshot.is_result and _has_same_content(snapshot, files, last.manifest):
                return None
            pack_sizes = {**self._reusable_packs, **(last.manifest.packs if last else {}), **packer.pack_sizes}
            if self._rewrite_sparse_packs(files, pack_sizes, chunker):
                snapshot.ensure_consistent()  # rewriting has read the files again
            packer.finish()  # the manifest must not exist before everything that it refers to
            sent = sum(packer.pack_sizes.values())
            announces = snapshot.quality is Quality.ANNOUNCED or (last is not None and last.manifest.announces)
            all_sizes = {**pack_sizes, **packer.pack_sizes}
            return self._put_manifest(snapshot, files, all_sizes, announces=announces, sent=sent)
        except LeaseLostError:
            raise
        except Exception:
            self._keep_accepted(packer, chunker)
            raise

    def _on_stored(self) -> None:
        self.moved_at = self._clock.monotonic()

    def forget_failed_uploads(self) -> None:
        """Stop reusing what failed uploads have left in the bucket: garbage collection is about to remove it."""
        self._reusable_runs, self._reusable_packs = [], {}

    def _put_manifest(
        self, snapshot: Snapshot, files: list[ChunkedFile], pack_sizes: dict[str, int], *, announces: bool, sent: int
    ) -> UploadedCheckpoint:
        entries = tuple(chunked.entry() for chunked in files)
        packs = sorted({extent.pack for entry in entries for extent in entry.extents} - {HOLE})
        manifest = Manifest(
            self.keys.job,
            self.epoch,
            snapshot.seq,
            snapshot.step,
            {pack: pack_sizes[pack] for pack in packs},
            entries,
            snapshot.directories,
            snapshot.symlinks,
            snapshot.hard_links,
            quality=snapshot.quality,
            announces=announces,
            in_place=snapshot.in_place,
        )
        body, key = encode_manifest(manifest), self.keys.manifest(self.epoch, snapshot.seq, self._token)
        self._limiter.wait(len(body))
        self.store.put(key, body)
        self._on_stored()
        ref = CheckpointRef(
            manifest=key,
            digest=digest_bytes(body),
            seq=snapshot.seq,
            step=snapshot.step,
            bytes=manifest.bytes,
            sent=sent + len(body),
        )
        runs = {chunked.file.path: chunked.runs for chunked in files}
        return UploadedCheckpoint(ref, BaseCheckpoint(key, manifest, runs))

    def _rewrite_sparse_packs(self, files: list[ChunkedFile], pack_sizes: dict[str, int], chunker: Chunker) -> bool:
        """Move chunks out of the packs with the smallest share of live bytes, if too many dead bytes are stored.

        Returns:
            True if anything was moved.
        """
        live = _live_bytes(files)
        stored, alive = sum(pack_sizes[pack] for pack in live), sum(live.values())
        if stored <= REWRITE_ABOVE * alive:
            return False
        sparse = set()
        for pack in sorted(live, key=lambda pack: live[pack] / pack_sizes[pack]):
            if stored <= REWRITE_UNTIL * alive:
                break
            sparse.add(pack)
            stored -= pack_sizes[pack] - live[pack]
        for chunked in files:
            chunker.move_out(chunked, sparse)
        return True

    def _index(self, last: BaseCheckpoint | None) -> ChunkIndex:
        """Return the index of all chunks that may be reused, with those of each file of *last* together."""
        runs = [run for file in (last.runs.values() if last else ()) for run in file]
        starts, start = {}, 0
        for path, file in last.runs.items() if last else ():
            starts[path] = start
            start += len(file)
        return ChunkIndex([*runs, *self._reusable_runs], starts)

    def _keep_accepted(self, packer: Packer, chunker: Chunker) -> None:
        """Note what the store has accepted of a failed upload, for the next one to reuse."""
        packer.await_senders()
        self._reusable_runs += [run for run in chunker.all_runs() if run.extent.pack in packer.stored]
        self._reusable_packs.update({pack: packer.pack_sizes[pack] for pack in packer.stored})

    def _new_pack(self) -> str:
        """Return a key that was never used: a put that failed may still be carried out later."""
        self._packs_named += 1
        return self.keys.pack(self.epoch, self._packs_named, self._token)


def _live_bytes(files: Iterable[ChunkedFile]) -> dict[str, int]:
    """Return how many bytes of each pack are referred to. A frame counts once, however little of it is used."""
    spans: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for chunked in files:
        for run in chunked.runs:
            if run.extent.pack != HOLE:
                spans[run.extent.pack].add((run.extent.offset, run.extent.span))
    return {pack: sum(span for _, span in found) for pack, found in spans.items()}


def _has_same_content(snapshot: Snapshot, files: Sequence[ChunkedFile], last: Manifest) -> bool:
    """Return whether *last* is the same but for times. A program that only touches its files has done nothing new."""
    return (
        len(files) == len(last.files)
        and snapshot.hard_links == last.hard_links
        and _without_times(snapshot.directories, snapshot.symlinks) == _without_times(last.directories, last.symlinks)
        and all(chunked.entry().has_same_content(entry) for chunked, entry in zip(files, last.files, strict=True))
    )


def _without_times(
    directories: Iterable[DirectoryEntry], symlinks: Iterable[SymlinkEntry]
) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    return (
        [(entry.path, entry.mode) for entry in directories],
        [(entry.path, entry.target) for entry in symlinks],
    )
