"""Garbage collection removes checkpoints that the record still names besides the last two."""

from simulation.checker import ALL_THERE
from simulation.mutants import replace

from lifecycle.attempt.retention import Retention

FOUND_AS = (ALL_THERE,)


def install() -> None:
    replace(Retention, "kept", lambda _: [])
