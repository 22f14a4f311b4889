"""Restored files are not verified, so a damaged checkpoint is used."""

from simulation.checker import ALL_THERE, NEVER_BACK, NOTHING_BREAKS, ONE_WINNER

from lifecycle.checkpoint.manifest import DIGEST_BYTES
from lifecycle.checkpoint.reader import FileVerifier

FOUND_AS = (NOTHING_BREAKS, ONE_WINNER, NEVER_BACK, ALL_THERE)


def install() -> None:
    def accept_digests(self, placed, digests):
        self._digests[placed.start // self.entry.chunk_bytes * DIGEST_BYTES :][: len(digests)] = digests
        return True

    FileVerifier.accept_digests = accept_digests
    FileVerifier.conclude = lambda _: None
