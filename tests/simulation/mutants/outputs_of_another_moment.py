"""Growing outputs are captured before the state, so they may be shorter than it requires."""

from attrs import evolve
from simulation.checker import NOTHING_BREAKS
from simulation.mutants import replace

import lifecycle.attempt.checkpoint_scheduler
from lifecycle.checkpoint.capture import capture_announced
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.ports.runner import Announced, JobDirs, Workload

FOUND_AS = (NOTHING_BREAKS,)


def install() -> None:
    def early(announced: Announced, workload: Workload, *, seq: int, dirs: JobDirs) -> Snapshot:
        taken = capture_announced(announced, workload, seq=seq, dirs=dirs)
        files = tuple(evolve(file, size=file.size // 2) if file.grows else file for file in taken.files)
        return evolve(taken, files=files)

    replace(lifecycle.attempt.checkpoint_scheduler, "capture_announced", early)
