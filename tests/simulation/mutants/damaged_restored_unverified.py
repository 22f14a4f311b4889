"""A restored file is not compared with its hash: a damaged checkpoint is worked on."""

from simulation.checker import ALL_THERE, NEVER_BACK, NOTHING_BREAKS, ONE_WINNER

from lifecycle.checkpoint.manifest import DIGEST_BYTES
from lifecycle.checkpoint.reader import FileVerifier

FOUND_AS = (NOTHING_BREAKS, ONE_WINNER, NEVER_BACK, ALL_THERE)


def install() -> None:
    def _is_right(self, piece, digests):
        self._digests[piece.start // self.entry.block * DIGEST_BYTES :][: len(digests)] = digests
        return True

    FileVerifier.is_right = _is_right
    FileVerifier.conclude = lambda _: None
