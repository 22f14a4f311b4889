"""The manifest goes up, and the record points to it, while packs are still on their way."""

from simulation.checker import ALL_THERE

from lifecycle.checkpoint.writer import Packer

FOUND_AS = (ALL_THERE,)


def install() -> None:
    def finish(self):
        self.close_pack()

    Packer.finish = finish
