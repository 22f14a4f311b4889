"""The files of a program that was killed are said to be what a program left that had saved."""

from simulation.checker import QUALITY
from simulation.mutants import replace

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.checkpoint.manifest import Quality

FOUND_AS = (QUALITY,)


def install() -> None:
    replace(CheckpointScheduler, "_quality_left", lambda *_: Quality.EXITED)
