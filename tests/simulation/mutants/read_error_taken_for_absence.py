"""A checkpoint that cannot be read counts as missing, so the job starts from its input."""

from typing import Any

from simulation.checker import NEVER_BACK, TRUE_COUNTS
from simulation.mutants import replace
from simulation.truth import FALLBACK

import lifecycle.attempt.staging
from lifecycle.checkpoint.restore import restore
from lifecycle.errors import RetryableError

FOUND_AS = (NEVER_BACK, TRUE_COUNTS, FALLBACK)


def install() -> None:
    def careless(*args: Any, **kwargs: Any) -> Any:
        try:
            return restore(*args, **kwargs)
        except RetryableError:
            return None

    replace(lifecycle.attempt.staging, "restore", careless)
