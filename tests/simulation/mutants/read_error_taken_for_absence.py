"""A checkpoint that cannot be read counts as missing, so the job starts from its input."""

from simulation.checker import NEVER_BACK, TRUE_COUNTS

import lifecycle.attempt.staging
from lifecycle.errors import RetryableError

FOUND_AS = (NEVER_BACK, TRUE_COUNTS)


def install() -> None:
    restore = lifecycle.attempt.staging.restore

    def careless(*args, **kwargs):
        try:
            return restore(*args, **kwargs)
        except RetryableError:
            return None

    lifecycle.attempt.staging.restore = careless
