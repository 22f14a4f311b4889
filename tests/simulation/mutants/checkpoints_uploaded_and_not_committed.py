"""Only the first checkpoint is committed, so a crash costs all work since then."""

from simulation.checker import WORK_LOST
from simulation.mutants import replace

from lifecycle.attempt.checkpoint_scheduler import CheckpointScheduler

FOUND_AS = (WORK_LOST,)


def install() -> None:
    commit_if_due = CheckpointScheduler.commit_if_due

    def lazily(self: CheckpointScheduler) -> None:
        if self.commits == 0:
            commit_if_due(self)

    replace(CheckpointScheduler, "commit_if_due", lazily)
