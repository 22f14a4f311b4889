"""Packer: what is new, put together into objects, and sent in the background.

A file's bytes are read once, to where they are sent from: into the pack that is being filled, behind what it holds.
What turns out to be in the bucket already is written over by what comes next. Where a file is read to is aligned, and
memory is used again: otherwise the kernel takes several times as long to copy there (ADR 21).
"""

import logging
import mmap
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from lifecycle.checkpoint.chunks import ChunkSizes
from lifecycle.concurrency import RateLimiter, ThreadPool
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ObjectStore

SENDERS: Final = 8  # packs on their way at once, of a size each: a store far away is waited for, not computed for
PACED_S: Final = 2.0  # with a cap, a pack holds what may be sent in this time
SMALLEST_PACED: Final = 1 << 20
ALIGNED: Final = 64  # bytes: where a file is read to begins at a multiple, whatever came before it

log = logging.getLogger("holdfast.packs")


class Packer:
    """Collects pieces into objects, and sends those in the background; holds a few in memory, and no more.

    Args:
        store: Where to.
        clock: For threads.
        name: Makes a new key.
        chunk_sizes: How much goes into one.
        limiter: The cap on what is sent.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        *,
        name: Callable[[], str],
        chunk_sizes: ChunkSizes,
        limiter: RateLimiter,
    ) -> None:
        self._store = store
        self._name = name
        self._limiter = limiter
        self._most = chunk_sizes.pack_bytes
        if limiter.bytes_per_s:
            self._most = min(chunk_sizes.pack_bytes, max(SMALLEST_PACED, int(limiter.bytes_per_s * PACED_S)))
        self._pool = ThreadPool(clock, name="send-pack", max_threads=SENDERS)
        self._buffers = _Buffers(chunk_sizes.pack_bytes + ALIGNED + chunk_sizes.read_bytes)
        self._key = ""
        self._body = self._buffers.take()
        self._held = 0
        self._room = (0, 0)
        self.pack_sizes: dict[str, int] = {}
        """The size of each pack, in bytes, by key; the last one may still grow."""
        self.arrived: set[str] = set()
        """Those that the store has taken."""

    def room(self, size: int) -> memoryview:
        """A place for the next *size* bytes of a file, up to `Sizes.read`; the one before is no longer valid."""
        start = self._held + -self._held % ALIGNED
        self._room = start, start + size
        return self._body[start : start + size]

    def seen(self, first: int, end: int) -> memoryview:
        """The bytes from *first* to *end* of what has been put into the room, until more is kept."""
        start = self._room[0]
        return self._body[start + first : start + end]

    def keep(self, first: int, end: int) -> tuple[str, int]:
        """Put those bytes of what is in the room into a pack, and return its key and the offset there.

        They come after what was kept or added since the room was made; and before the rest of it, which stays valid.
        """
        self._make_place(end - first)
        source = self._room[0] + first
        if source != self._held:
            self._body[self._held : self._held + end - first] = self._body[source : source + end - first]
        return self._grown(end - first)

    def add(self, piece: bytes) -> tuple[str, int]:
        """Put *piece* into a pack instead of bytes in the room that are no fewer and come next; else as `keep`."""
        self._make_place(len(piece))
        self._body[self._held : self._held + len(piece)] = piece
        return self._grown(len(piece))

    def close(self) -> None:
        """Send what has been collected; the next piece begins a new pack."""
        if self._held:
            key, body, held = self._key, self._body, self._held
            start, end = self._room
            self._body, self._held, self._room = self._buffers.take(), 0, (start - held, end - held)
            if end > held:
                self._body[: end - held] = body[held:end]
            self._pool.submit(partial(self._send, key, body, held))

    def finish(self) -> None:
        """Send everything, and wait until it has arrived.

        Raises:
            RetryableError: Not everything has.
        """
        if self._held:  # the last one, which is often the only one, needs no thread
            held, self._held = self._held, 0
            self._send(self._key, self._body, held)
            self._body = self._buffers.take()
        self._pool.finish()

    def settle(self) -> None:
        """Wait until nothing is on its way any more, whatever became of it."""
        try:
            self._pool.finish()
        except Exception as error:  # noqa: BLE001 - the upload has failed already, and says why
            log.debug("a pack has not arrived: %s", error)

    def _make_place(self, size: int) -> None:
        if self._held and self._held + size > self._most:
            self.close()
        if not self._held:
            self._key = self._name()

    def _grown(self, size: int) -> tuple[str, int]:
        offset, self._held = self._held, self._held + size
        self.pack_sizes[self._key] = self._held
        return self._key, offset

    def _send(self, key: str, body: memoryview, held: int) -> None:
        self._limiter.wait(held)
        self._store.put(key, body[:held])
        self.arrived.add(key)
        self._buffers.give_back(body)


class _Buffers:
    """Memory that is used again and again; from whole pages, and large ones where the system has them.

    Args:
        size: Of each, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: deque[memoryview] = deque()

    def take(self) -> memoryview:
        """One that nobody uses."""
        with suppress(IndexError):
            return self._free.pop()
        memory = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                memory.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(memory)

    def give_back(self, buffer: memoryview) -> None:
        """*buffer* is used no longer; from any thread."""
        self._free.append(buffer)
