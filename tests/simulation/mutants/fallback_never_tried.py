"""A job whose last checkpoint is useless fails, though the one before is good."""

from simulation.checker import LIVENESS
from simulation.mutants import replace

import lifecycle.record.blame

FOUND_AS = (LIVENESS,)


def install() -> None:
    replace(lifecycle.record.blame, "can_fall_back", lambda _: False)
