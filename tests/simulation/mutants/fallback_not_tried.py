"""A job whose last checkpoint is damaged fails, although the one before is sound."""

from collections.abc import Sequence
from typing import Any

from simulation.checker import LIVENESS
from simulation.mutants import replace

import lifecycle.attempt.staging
from lifecycle.checkpoint.restore import restore
from lifecycle.job_record import CheckpointRef

FOUND_AS = (LIVENESS,)


def install() -> None:
    def hasty(store: Any, clock: Any, refs: Sequence[CheckpointRef], *args: Any, **kwargs: Any) -> Any:
        return restore(store, clock, refs[:1], *args, **kwargs)

    replace(lifecycle.attempt.staging, "restore", hasty)
