"""`holdfast retry JOB…`: reopen failed or cancelled jobs, from their last checkpoint, an earlier one, or the start."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from client.config.environment import Environment
from client.operations.job_control import apply_to_each, retry, retry_from_checkpoint, retry_from_start
from client.operations.notices import deliver_after_change
from client.views.action_results import print_results
from client.views.output import complain
from lifecycle.states import State

AMONG: Final = frozenset({State.FAILED, State.CANCELLED})
"""States in which a job can be reopened."""


def run(env: Environment, jobs: Sequence[str], *, from_start: bool = False, from_checkpoint: str | None = None) -> int:
    """Reopen each of *jobs*; a job that cannot be reopened does not stop the others.

    Args:
        env: The environment of the jobs.
        jobs: Their ids.
        from_start: Begin from the input.
        from_checkpoint: Go on from this checkpoint, `previous` or a number; None: from the last.

    Returns:
        0; 1 if a job was not reopened, or its message was not sent, which stderr names.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong.
    """
    action = retry_from_start if from_start else retry
    if from_checkpoint:
        action = partial(retry_from_checkpoint, wanted=from_checkpoint)
    exit_code = print_results(apply_to_each(env, jobs, action))
    for line in deliver_after_change(env, jobs):
        complain(line)
    return exit_code
