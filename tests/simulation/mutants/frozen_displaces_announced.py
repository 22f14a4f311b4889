"""The files of a job that announces its checkpoints are captured as well: they are older than the last of those."""

from typing import Any

from simulation.checker import ALL_THERE, NEVER_BACK, NOTHING_BREAKS, QUALITY
from simulation.mutants import replace

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler
from lifecycle.ports.runner import Report

FOUND_AS = (QUALITY, NEVER_BACK, ALL_THERE, NOTHING_BREAKS)


def install() -> None:
    real = CheckpointScheduler._take_if_due

    def take_if_due(self: Any, report: Report) -> None:
        self._has_announced = False
        real(self, report)

    replace(CheckpointScheduler, "_take_if_due", take_if_due)
