"""Uploading a snapshot: the blocks that the last committed checkpoint does not hold, in packs; then the manifest.

Nothing uploaded here counts until the record names the manifest. Every key is new and carries the epoch, so whatever a
superseded attempt still uploads lies where nobody looks.

One way for large, small and growing files: they are read once, block by block, and what is new is put into packs one
after the other, whichever file it is of. So bytes follow the change, and requests follow the bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import frozen

from lifecycle.checkpoint.chunker import ChunkedFile, Chunker
from lifecycle.checkpoint.chunks import BaseCheckpoint, ChunkIndex, ChunkRun, ChunkSizes
from lifecycle.checkpoint.manifest import Manifest, digest_bytes, encode_manifest
from lifecycle.checkpoint.packer import Packer
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.concurrency import RateLimiter
from lifecycle.errors import LeaseLostError
from lifecycle.job_record import CheckpointRef
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore

MOST_STORED: Final = 2.0  # times what is alive: when more is stored, the deadest packs are rewritten
ENOUGH_STORED: Final = 1.75  # times the same: until no more than that is


@frozen
class UploadedCheckpoint:
    """An uploaded, uncommitted checkpoint.

    Attributes:
        ref: How the record will name it.
        base: What it holds, and the digests of its blocks.
    """

    ref: CheckpointRef
    base: BaseCheckpoint

    @property
    def manifest(self) -> Manifest:
        """What it holds."""
        return self.base.manifest


class CheckpointWriter:
    """Uploads the snapshots of one attempt, one after the other.

    Args:
        store: Where to.
        clock: For threads.
        keys: The job's keys.
        epoch: Ours.
        token: Ours alone: once a job is purged and submitted again, there is another attempt with our epoch.
        chunk_sizes: How files are cut.
        limiter: The cap on what is sent.
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
        self._named = 0
        self._sent_before: list[ChunkRun] = []
        self._pack_sizes_before: dict[str, int] = {}

    def upload(
        self, snapshot: Snapshot, last: BaseCheckpoint | None, *, check_interrupted: Callable[[], None]
    ) -> UploadedCheckpoint | None:
        """Upload *snapshot*.

        Args:
            snapshot: What to upload.
            last: The last committed checkpoint, whose blocks are used again.
            check_interrupted: Called again and again; may raise to give up.

        Returns:
            None if *last* already holds exactly these files, and they are no result.

        Raises:
            RetryableError: The store did not take it. What it took is not sent again with the next snapshot.
            TornSnapshotError: A file was written to while it was read.
            OSError: The snapshot cannot be read.
        """
        packs = Packer(self.store, self._clock, name=self._name, chunk_sizes=self._chunk_sizes, limiter=self._limiter)
        chunker = Chunker(packs, self._chunk_sizes, self._index(last), check_interrupted)
        try:
            files = [chunker.cut(file) for file in snapshot.files]
            snapshot.ensure_consistent()
            if last and not snapshot.is_result and _is_like(files, last.manifest):
                return None
            pack_sizes = {**self._pack_sizes_before, **(last.manifest.packs if last else {}), **packs.pack_sizes}
            if self._rewrite_dead(files, pack_sizes, chunker):
                snapshot.ensure_consistent()
            packs.finish()
            return self._conclude(
                snapshot, files, {**pack_sizes, **packs.pack_sizes}, sent=sum(packs.pack_sizes.values())
            )
        except LeaseLostError:
            raise
        except Exception:
            self._remember(packs, chunker)
            raise

    def forget_failed_uploads(self) -> None:
        """Use no longer what uploads that failed have left: it is about to be collected."""
        self._sent_before, self._pack_sizes_before = [], {}

    def _conclude(
        self, snapshot: Snapshot, files: list[ChunkedFile], pack_sizes: dict[str, int], *, sent: int
    ) -> UploadedCheckpoint:
        entries = tuple(cut.entry() for cut in files)
        named = sorted({extent.pack for entry in entries for extent in entry.extents})
        manifest = Manifest(
            self.keys.job,
            self.epoch,
            snapshot.seq,
            snapshot.step,
            {pack: pack_sizes[pack] for pack in named},
            entries,
        )
        body, key = encode_manifest(manifest), self.keys.manifest(self.epoch, snapshot.seq, self._token)
        self._limiter.wait(len(body))
        self.store.put(key, body)
        ref = CheckpointRef(
            manifest=key,
            digest=digest_bytes(body),
            seq=snapshot.seq,
            step=snapshot.step,
            bytes=manifest.bytes,
            sent=sent + len(body),
        )
        return UploadedCheckpoint(ref, BaseCheckpoint(key, manifest, {cut.file.path: cut.runs for cut in files}))

    def _rewrite_dead(self, files: list[ChunkedFile], pack_sizes: dict[str, int], chunker: Chunker) -> bool:
        """Put what mostly dead packs still hold into new ones, if more than twice that is stored; whether it was."""
        live = _live(files)
        stored, alive = sum(pack_sizes[pack] for pack in live), sum(live.values())
        if stored <= MOST_STORED * alive:
            return False
        dead = set()
        for pack in sorted(live, key=lambda pack: live[pack] / pack_sizes[pack]):
            if stored <= ENOUGH_STORED * alive:
                break
            dead.add(pack)
            stored -= pack_sizes[pack] - live[pack]
        for cut in files:
            chunker.move_out(cut, dead)
        return True

    def _index(self, last: BaseCheckpoint | None) -> ChunkIndex:
        """All blocks that may be used again; those of each file of *last* together."""
        base = [run for file in (last.runs.values() if last else ()) for run in file]
        starts, layout = {}, 0
        for path, file in last.runs.items() if last else ():
            starts[path] = layout
            layout += len(file)
        return ChunkIndex([*base, *self._sent_before], starts)

    def _remember(self, packs: Packer, chunker: Chunker) -> None:
        """Note what has arrived of an upload that failed."""
        packs.settle()
        fresh = [run for run in chunker.placed() if run.extent.pack in packs.arrived]
        self._sent_before += fresh
        self._pack_sizes_before.update({pack: packs.pack_sizes[pack] for pack in packs.arrived})

    def _name(self) -> str:
        """A key that was never used: a try that came to nothing may still be on its way."""
        self._named += 1
        return self.keys.pack(self.epoch, self._named, self._token)


def _live(files: Iterable[ChunkedFile]) -> dict[str, int]:
    """How many bytes of each pack are named."""
    spans: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for cut in files:
        for run in cut.runs:
            spans[run.extent.pack].add((run.extent.offset, run.extent.span))
    return {pack: sum(span for _, span in found) for pack, found in spans.items()}


def _is_like(files: Sequence[ChunkedFile], last: Manifest) -> bool:
    return len(files) == len(last.files) and all(
        cut.entry().has_same_content(entry) for cut, entry in zip(files, last.files, strict=True)
    )
