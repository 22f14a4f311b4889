"""Packer: appended content is stored at the returned key and offset, however it is mixed with skipped content."""

import ctypes
import random

import pytest

from adapters.local.clock import SystemClock
from adapters.memory.store import MemoryStore
from lifecycle.checkpoint.chunks import ChunkSizes
from lifecycle.checkpoint.packer import ALIGNMENT, SENDERS, Packer
from lifecycle.concurrency import RateLimiter

SIZES = ChunkSizes(small_bytes=16, large_bytes=64, read_bytes=256, frame_bytes=128, pack_bytes=1024)
PIECE = 32


def packs_in(store: MemoryStore) -> Packer:
    clock, names = SystemClock(), iter(range(10_000))
    return Packer(
        store, clock, new_key=lambda: f"packs/{next(names)}", chunk_sizes=SIZES, limiter=RateLimiter(clock, 0)
    )


def play(packs: Packer, rng: random.Random) -> list[tuple[tuple[str, int], bytes]]:
    """Read random content, then skip, append or replace it; return the content expected at each location."""
    laid = []
    for _ in range(100):
        content = rng.randbytes(rng.randint(1, SIZES.read_bytes))
        packs.read_buffer(len(content))[:] = content
        for first in range(0, len(content), PIECE):
            end = min(first + PIECE, len(content))
            piece = content[first:end]
            assert packs.buffered(first, end) == piece
            match rng.choice(["pass over", "keep", "keep", "add"]):
                case "keep":
                    laid.append((packs.append_buffered(first, end), piece))
                case "add":
                    laid.append((packs.append_instead(piece[: len(piece) // 2]), piece[: len(piece) // 2]))
        if not rng.randrange(9):
            packs.close_pack()
    return laid


@pytest.mark.parametrize("seed", range(20))
def test_appended_content_is_stored_where_announced(seed: int) -> None:
    """Content is stored at the announced place, even if skipped bytes precede it or it is split between packs."""
    store = MemoryStore(SystemClock())
    packs = packs_in(store)
    laid = play(packs, random.Random(seed))
    packs.finish()
    bodies = {}
    for (key, offset), piece in laid:
        if key not in bodies and piece:
            stored = store.get(key)
            assert stored is not None
            bodies[key] = stored.body
        assert bodies.get(key, b"")[offset : offset + len(piece)] == piece
    assert {key: len(body) for key, body in bodies.items()} == packs.pack_sizes
    assert packs.stored == set(packs.pack_sizes)
    assert max(packs.pack_sizes.values()) <= SIZES.pack_bytes


def test_buffers_are_reused() -> None:
    """The number of buffers is bounded by the packs in flight and the one being filled."""
    packs = packs_in(MemoryStore(SystemClock()))
    for _ in range(200):
        packs.read_buffer(SIZES.read_bytes)
        packs.append_buffered(0, SIZES.read_bytes)
    packs.finish()
    assert len(packs._buffers._free) <= SENDERS + 1


def test_a_read_buffer_is_aligned() -> None:
    """The read buffer is aligned, for any length of content before it in the pack."""
    packs = packs_in(MemoryStore(SystemClock()))
    for size in (1, 63, 64, 65, 200):
        assert address(packs.read_buffer(SIZES.read_bytes)) % ALIGNMENT == 0
        packs.append_buffered(0, size)


def address(buffer: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
