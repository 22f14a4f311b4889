"""Packer: puts new chunks together into packs, and sends the packs in the background.

A file is read directly into the pack that is being filled, behind its content. Chunks that turn out to be new stay
there, and are hashed and sent from there; the next read overwrites those that the bucket already has. The read buffer
is aligned, and buffers are reused: otherwise the kernel takes several times as long to copy into them (docs/adr/0021).
"""

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
from lifecycle.structured_log import StructuredLogger

SENDERS: Final = 8  # packs that are sent at a time: a distant store is waited for, not computed for
LIMITED_PACK_S: Final = 2.0  # with a limited rate, a pack holds what may be sent in this time
MIN_LIMITED_PACK_BYTES: Final = 1 << 20
ALIGNMENT: Final = 64  # of the read buffer, in bytes

log = StructuredLogger("holdfast.packs")


class Packer:
    """Collects chunks in packs and sends full packs in the background, with a few of them in memory at a time.

    It belongs to one thread; only the sending happens in others.

    Args:
        store: Where the packs go.
        clock: Source of threads.
        new_key: Returns a new key for a pack.
        chunk_sizes: Largest size of a read and of a pack.
        limiter: Limit on the upload rate.
        on_stored: Called, from any thread, when the store has accepted a pack.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        *,
        new_key: Callable[[], str],
        chunk_sizes: ChunkSizes,
        limiter: RateLimiter,
        on_stored: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._new_key = new_key
        self._limiter = limiter
        self._on_stored = on_stored
        self._max_bytes = chunk_sizes.pack_bytes
        if limiter.bytes_per_s:
            limited = max(MIN_LIMITED_PACK_BYTES, int(limiter.bytes_per_s * LIMITED_PACK_S))
            self._max_bytes = min(chunk_sizes.pack_bytes, limited)
        self._pool = ThreadPool(clock, name="send-pack", max_threads=SENDERS)
        self._buffers = _Buffers(chunk_sizes.pack_bytes + ALIGNMENT + chunk_sizes.read_bytes)
        self._key = ""
        self._body = self._buffers.take()
        self._filled = 0
        self._read_area = (0, 0)
        self.pack_sizes: dict[str, int] = {}
        """Size of each pack in bytes, by key. The last one may still grow."""
        self.stored: set[str] = set()
        """Keys of the packs that the store has accepted."""

    def read_buffer(self, size: int) -> memoryview:
        """Return a buffer for the next *size* bytes of a file, at most `ChunkSizes.read_bytes`.

        It lies behind the content of the current pack, and invalidates the previous one.
        """
        start = self._filled + -self._filled % ALIGNMENT
        self._read_area = start, start + size
        return self._body[start : start + size]

    def buffered(self, first: int, end: int) -> memoryview:
        """Return the bytes *first* to *end* of the read buffer; valid until the next append."""
        start = self._read_area[0]
        return self._body[start + first : start + end]

    def append_buffered(self, first: int, end: int) -> tuple[str, int]:
        """Append the bytes *first* to *end* of the read buffer to a pack.

        Ranges of one read buffer must be appended in order. The bytes behind *end* stay valid.

        Returns:
            Key of the pack, and the offset there.
        """
        self._make_room(end - first)
        source = self._read_area[0] + first
        if source != self._filled:  # something in front was skipped or compressed, or the alignment left a gap
            self._body[self._filled : self._filled + end - first] = self._body[source : source + end - first]
        return self._advance(end - first)

    def append_instead(self, content: bytes) -> tuple[str, int]:
        """Append *content* to a pack in place of the next bytes of the read buffer.

        It must not be longer than those, or it would overwrite the bytes behind them.

        Returns:
            Key of the pack, and the offset there.
        """
        self._make_room(len(content))
        self._body[self._filled : self._filled + len(content)] = content
        return self._advance(len(content))

    def close_pack(self) -> None:
        """Send the current pack in the background, so that the next append starts another.

        Raises:
            Exception: An earlier pack could not be sent.
        """
        if self._filled:
            key, body, filled = self._key, self._body, self._filled
            start, end = self._read_area
            self._body, self._filled, self._read_area = self._buffers.take(), 0, (start - filled, end - filled)
            if end > filled:  # what remains in the read buffer moves to the new pack
                self._body[: end - filled] = body[filled:end]
            self._pool.submit(partial(self._send, key, body, filled))

    def finish(self) -> None:
        """Send everything and wait until the store has accepted it.

        Raises:
            RetryableError: It has not accepted everything.
        """
        if self._filled:  # the last pack, often the only one, is sent from this thread
            filled, self._filled = self._filled, 0
            self._send(self._key, self._body, filled)
            self._body = self._buffers.take()
        self._pool.finish()

    def await_senders(self) -> None:
        """Wait until nothing is being sent any more, with or without success. Afterwards `stored` is final."""
        try:
            self._pool.finish()
        except Exception as error:  # noqa: BLE001 - the upload has failed before, with its own error
            log.debug("pack.send_failed", error=str(error))

    def _make_room(self, size: int) -> None:
        if self._filled and self._filled + size > self._max_bytes:
            self.close_pack()
        if not self._filled:
            self._key = self._new_key()

    def _advance(self, size: int) -> tuple[str, int]:
        offset, self._filled = self._filled, self._filled + size
        self.pack_sizes[self._key] = self._filled
        return self._key, offset

    def _send(self, key: str, body: memoryview, size: int) -> None:
        self._limiter.wait(size)
        self._store.put(key, body[:size])
        self.stored.add(key)
        self._on_stored()
        self._buffers.give_back(body)


class _Buffers:
    """Pool of equal buffers made of whole pages, and of huge pages where the system has them. Thread-safe.

    Args:
        size: Size of each buffer, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: deque[memoryview] = deque()

    def take(self) -> memoryview:
        """Return a buffer that is not in use."""
        with suppress(IndexError):
            return self._free.pop()
        memory = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without huge pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(memory)

    def give_back(self, buffer: memoryview) -> None:
        """Return *buffer* to the pool; from any thread."""
        self._free.append(buffer)
