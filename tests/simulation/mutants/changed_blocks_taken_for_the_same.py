"""Chunks are compared by position and not by digest, so a change in place is not uploaded."""

from simulation.checker import ALL_THERE, NOTHING_BREAKS
from simulation.mutants import replace

import lifecycle.checkpoint.chunk_index
from lifecycle.checkpoint.manifest import DIGEST_BYTES

FOUND_AS = (ALL_THERE, NOTHING_BREAKS)


def install() -> None:
    replace(
        lifecycle.checkpoint.chunk_index,
        "_common_chunks",
        lambda known, digests: min(len(known), len(digests)) // DIGEST_BYTES,
    )
