"""The manifest is uploaded and committed while packs are still in flight."""

from simulation.checker import ALL_THERE
from simulation.mutants import replace

from lifecycle.checkpoint.packer import Packer

FOUND_AS = (ALL_THERE,)


def install() -> None:
    def finish(self: Packer) -> None:
        self.close_pack()

    replace(Packer, "finish", finish)
