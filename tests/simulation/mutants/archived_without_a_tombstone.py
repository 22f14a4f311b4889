"""Archive removes records without writing their tombstones."""

from simulation.checker import ALL_THERE
from simulation.mutants import replace

import client.operations.archiving

FOUND_AS = (ALL_THERE,)


def install() -> None:
    replace(client.operations.archiving, "_bury", lambda *_: True)
