"""Blocks are compared by their place, and not by their digests: what was changed in place is not sent."""

from simulation.checker import ALL_THERE, NOTHING_BREAKS

import lifecycle.checkpoint.chunks
from lifecycle.checkpoint.manifest import DIGEST_BYTES

FOUND_AS = (ALL_THERE, NOTHING_BREAKS)


def install() -> None:
    lifecycle.checkpoint.chunks._same = lambda stored, digests: min(len(stored), len(digests)) // DIGEST_BYTES
