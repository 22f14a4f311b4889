"""Archive removes a record that a retry has changed before it could be marked."""

from typing import Any

from simulation.checker import ALL_THERE, LIVENESS
from simulation.mutants import replace

import client.operations.archiving
from client.operations.archiving import _mark

FOUND_AS = (ALL_THERE, LIVENESS)


def install() -> None:
    def deaf(*args: Any) -> bool:
        _mark(*args)
        return True

    replace(client.operations.archiving, "_mark", deaf)
