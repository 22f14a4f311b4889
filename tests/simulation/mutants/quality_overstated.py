"""The files of a program that was frozen are said to have been quiet."""

from typing import Any

from attrs import evolve
from simulation.checker import QUALITY
from simulation.mutants import replace

import lifecycle.attempt.file_captures
from lifecycle.checkpoint.capture import capture_frozen
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.snapshot import Snapshot

FOUND_AS = (QUALITY,)


def install() -> None:
    def capture(*args: Any, **kwargs: Any) -> Snapshot | None:
        snapshot = capture_frozen(*args, **kwargs)
        return evolve(snapshot, quality=Quality.QUIET) if snapshot else None

    replace(lifecycle.attempt.file_captures, "capture_frozen", capture)
