"""Uploading a snapshot: the blocks that the last committed checkpoint does not hold, in packs; then the manifest.

Nothing uploaded here counts until the record names the manifest. Every key is new and carries the epoch, so whatever a
superseded attempt still uploads lies where nobody looks.

One way for large, small and growing files: they are read once, block by block, and what is new is put into packs one
after the other, whichever file it is of. So bytes follow the change, and requests follow the bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import FileIO
from typing import Final

from attrs import define, field, frozen
from zstandard import ZstdCompressor

from lifecycle.blocks import Cursor, Index, Known, Layout, Sizes, Stretch, digests_of, entry_of
from lifecycle.crew import Pace
from lifecycle.errors import LeaseLostError, TornSnapshotError
from lifecycle.keys import JobKeys
from lifecycle.manifest import DIGEST_BYTES, Extent, FileEntry, Manifest, digest_bytes, encode
from lifecycle.packs import Packs
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore
from lifecycle.record import CheckpointRef
from lifecycle.snapshot import Snapshot, SnapshotFile

SAMPLE: Final = 1 / 32  # of what is read at once: compressed, to see whether it pays
SMALLEST_SAMPLE: Final = 4 << 10
WORTH: Final = 1.15  # times smaller, at least (facts: performance, 5)
DECIDED_FOR: Final = 16 << 20  # bytes of a file that one sample speaks for
MOST_STORED: Final = 2.0  # times what is alive: when more is stored, the deadest packs are rewritten
ENOUGH_STORED: Final = 1.75  # times the same: until no more than that is


@frozen
class Saved:
    """An uploaded, uncommitted checkpoint.

    Attributes:
        ref: How the record will name it.
        known: What it holds, and the digests of its blocks.
    """

    ref: CheckpointRef
    known: Known

    @property
    def manifest(self) -> Manifest:
        """What it holds."""
        return self.known.manifest


class Engine:
    """Uploads the snapshots of one attempt, one after the other.

    Args:
        store: Where to.
        clock: For threads.
        keys: The job's keys.
        epoch: Ours.
        mark: Ours alone: once a job is purged and submitted again, there is another attempt with our epoch.
        sizes: How files are cut.
        pace: The cap on what is sent.
    """

    def __init__(
        self, store: ObjectStore, clock: Clock, *, keys: JobKeys, epoch: int, mark: str, sizes: Sizes, pace: Pace
    ) -> None:
        self.store = store
        self._clock = clock
        self.keys = keys
        self.epoch = epoch
        self._mark = mark
        self._sizes = sizes
        self._pace = pace
        self._named = 0
        self._sent_before: list[Stretch] = []
        self._sizes_before: dict[str, int] = {}

    def upload(self, snapshot: Snapshot, last: Known | None, *, between: Callable[[], None]) -> Saved | None:
        """Upload *snapshot*.

        Args:
            snapshot: What to upload.
            last: The last committed checkpoint, whose blocks are used again.
            between: Called again and again; may raise to give up.

        Returns:
            None if *last* already holds exactly these files, and the attempt goes on.

        Raises:
            RetryableError: The store did not take it. What it took is not sent again with the next snapshot.
            TornSnapshotError: A file was written to while it was read.
            OSError: The snapshot cannot be read.
        """
        packs = Packs(self.store, self._clock, name=self._name, sizes=self._sizes, pace=self._pace)
        cutter = _Cutter(packs, self._sizes, self._index(last), between)
        try:
            files = [cutter.cut(file) for file in snapshot.files]
            snapshot.expect_whole()
            if last and not snapshot.is_last and _is_like(files, last.manifest):
                return None
            pack_sizes = {**self._sizes_before, **(last.manifest.packs if last else {}), **packs.sizes}
            if self._rewrite_dead(files, pack_sizes, cutter):
                snapshot.expect_whole()
            packs.finish()
            return self._conclude(snapshot, files, {**pack_sizes, **packs.sizes}, sent=sum(packs.sizes.values()))
        except LeaseLostError:
            raise
        except Exception:
            self._remember(packs, cutter)
            raise

    def forget(self) -> None:
        """Use no longer what uploads that failed have left: it is about to be collected."""
        self._sent_before, self._sizes_before = [], {}

    def _conclude(self, snapshot: Snapshot, files: list["Cut"], pack_sizes: dict[str, int], *, sent: int) -> Saved:
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
        body, key = encode(manifest), self.keys.manifest(self.epoch, snapshot.seq, self._mark)
        self._pace.wait(len(body))
        self.store.put(key, body)
        ref = CheckpointRef(
            manifest=key,
            digest=digest_bytes(body),
            seq=snapshot.seq,
            step=snapshot.step,
            bytes=manifest.bytes,
            sent=sent + len(body),
        )
        return Saved(ref, Known(key, manifest, {cut.file.path: cut.stretches for cut in files}))

    def _rewrite_dead(self, files: list["Cut"], pack_sizes: dict[str, int], cutter: "_Cutter") -> bool:
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
            cutter.move_out(cut, dead)
        return True

    def _index(self, last: Known | None) -> Index:
        """All blocks that may be used again; those of each file of *last* together."""
        known = [stretch for file in (last.stretches.values() if last else ()) for stretch in file]
        starts, place = {}, 0
        for path, file in last.stretches.items() if last else ():
            starts[path] = place
            place += len(file)
        return Index([*known, *self._sent_before], starts)

    def _remember(self, packs: Packs, cutter: "_Cutter") -> None:
        """Note what has arrived of an upload that failed."""
        packs.settle()
        fresh = [stretch for stretch in cutter.placed() if stretch.extent.pack in packs.arrived]
        self._sent_before += fresh
        self._sizes_before.update({pack: packs.sizes[pack] for pack in packs.arrived})

    def _name(self) -> str:
        """A key that was never used: a try that came to nothing may still be on its way."""
        self._named += 1
        return self.keys.pack(self.epoch, self._named, self._mark)


@define
class Cut:
    """A file of a snapshot, and where its blocks lie."""

    file: SnapshotFile
    block: int
    stretches: tuple[Stretch, ...]

    def entry(self) -> FileEntry:
        """As the manifest has it."""
        return entry_of(self.file.path, self.file.mode, self.block, self.stretches)


@define
class _Cutter:
    """Cuts files into blocks, and puts those that are nowhere yet into packs."""

    packs: Packs
    sizes: Sizes
    index: Index
    between: Callable[[], None]
    _layout: Layout = field(init=False)
    _cuts: list[Cut] = field(factory=list, init=False)
    _zstd: ZstdCompressor = field(factory=lambda: ZstdCompressor(level=1), init=False)
    _judged_until: int = field(default=0, init=False)
    _compresses: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._layout = Layout(self.sizes.small)

    def cut(self, file: SnapshotFile) -> Cut:
        """Read *file* to the length that it had when the snapshot was taken."""
        start = self.index.starts.get(file.path)
        cursor = Cursor(len(self.index.stretches) if start is None else start, 0)
        block = self.index.block_at(start) if start is not None else None
        if block is None or self.sizes.frame % block:
            block = self.sizes.block(file.size)
        if start is None and file.size >= self.sizes.pack:
            self.packs.close()  # so that its packs are parts of it, which publishing can copy within the store
        self._begin(block)
        with file.source.open("rb", buffering=0) as source:
            for content in self._pieces(source, file, 0, file.size):
                self._add(digests_of(content, block), len(content), block, cursor)
        return self._finished(file, block)

    def move_out(self, cut: Cut, dead: set[str]) -> None:
        """Put those pieces of a file that lie in *dead* packs elsewhere."""
        if all(stretch.extent.pack not in dead for stretch in cut.stretches):
            return
        self._begin(cut.block)
        with cut.file.source.open("rb", buffering=0) as source:
            for stretch in cut.stretches:
                start, length = self._layout.size, stretch.extent.length
                if stretch.extent.pack not in dead:
                    self._layout.add(stretch)
                    continue
                for content in self._pieces(source, cut.file, start, length):
                    self._place(digests_of(content, cut.block), 0, len(content), cut.block)
        self._cuts.remove(cut)
        cut.stretches = self._finished(cut.file, cut.block).stretches

    def placed(self) -> Iterator[Stretch]:
        """Everything that it has cut so far, wherever it lies."""
        yield from (stretch for cut in self._cuts for stretch in cut.stretches)
        yield from self._layout.stretches()

    def _begin(self, block: int) -> None:
        self._layout = Layout(block)
        self._judged_until = 0

    def _finished(self, file: SnapshotFile, block: int) -> Cut:
        cut = Cut(file, block, self._layout.stretches())
        self._begin(block)
        self._cuts.append(cut)
        return cut

    def _pieces(self, source: FileIO, file: SnapshotFile, start: int, length: int) -> Iterator[memoryview]:
        """What stands in *source*, piece by piece, each in the room where a pack would have it."""
        if start:
            source.seek(start)
        while length:
            self.between()
            content = self.packs.room(min(length, self.sizes.read))
            done = 0
            while done < len(content):
                count = source.readinto(content[done:])
                if not count:
                    raise TornSnapshotError(file.path, "it became shorter")
                done += count
            yield content
            length -= len(content)

    def _add(self, digests: bytes, size: int, block: int, cursor: Cursor) -> None:
        """The file goes on with the *size* bytes in the room, whose blocks have *digests*."""
        total, done, fresh = len(digests) // DIGEST_BYTES, 0, 0
        while done < total and self.index.stretches:
            rest = digests[done * DIGEST_BYTES :]
            found = self.index.at(cursor, rest, block) or self._elsewhere(cursor, rest, block)
            if found:
                self._place_blocks(digests, size, block, fresh, done)
                self._layout.add(found)
                done += len(found)
                fresh = done
            else:
                done += 1
        self._place_blocks(digests, size, block, fresh, total)

    def _elsewhere(self, cursor: Cursor, digests: bytes, block: int) -> Stretch | None:
        place = self.index.find(digests[:DIGEST_BYTES], block)
        if place is None:
            return None
        cursor.stretch, cursor.number = place.stretch, place.number
        return self.index.at(cursor, digests, block)

    def _place_blocks(self, digests: bytes, size: int, block: int, first: int, end: int) -> None:
        if first < end:
            piece = digests[first * DIGEST_BYTES : end * DIGEST_BYTES]
            self._place(piece, first * block, min(end * block, size), block)

    def _place(self, digests: bytes, first: int, end: int, block: int) -> None:
        """Put blocks that are nowhere yet, the bytes *first* to *end* of what is in the room, into a pack."""
        if self._layout.size >= self._judged_until:
            self._judged_until = self._layout.size + DECIDED_FOR
            self._compresses = self._pays(self.packs.seen(first, end))
        if not self._compresses:
            self._lay(self.packs.keep(first, end), end - first, None, digests, block)
            return
        for start in range(first, end, self.sizes.frame):
            stop = min(start + self.sizes.frame, end)
            of_these = digests[(start - first) // block * DIGEST_BYTES : -(-(stop - first) // block) * DIGEST_BYTES]
            frame = self._zstd.compress(self.packs.seen(start, stop))
            if len(frame) < stop - start:
                self._lay(self.packs.add(frame), stop - start, len(frame), of_these, block)
            else:
                self._lay(self.packs.keep(start, stop), stop - start, None, of_these, block)

    def _lay(self, place: tuple[str, int], size: int, stored: int | None, digests: bytes, block: int) -> None:
        self._layout.add(Stretch(Extent(*place, size, "", stored), block, digests))

    def _pays(self, content: memoryview) -> bool:
        size = max(int(len(content) * SAMPLE), SMALLEST_SAMPLE)
        middle = max(len(content) - size, 0) // 2
        sample = content[middle : middle + size]
        return len(self._zstd.compress(sample)) * WORTH <= len(sample)


def _live(files: Iterable[Cut]) -> dict[str, int]:
    """How many bytes of each pack are named."""
    spans: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for cut in files:
        for stretch in cut.stretches:
            spans[stretch.extent.pack].add((stretch.extent.offset, stretch.extent.span))
    return {pack: sum(span for _, span in found) for pack, found in spans.items()}


def _is_like(files: Sequence[Cut], last: Manifest) -> bool:
    return len(files) == len(last.files) and all(
        cut.entry().is_like(entry) for cut, entry in zip(files, last.files, strict=True)
    )
