"""`holdfast cancel JOB…`: cancel jobs, at once or at their owner's next heartbeat."""

from collections.abc import Sequence
from typing import Final

from client.config.environment import Environment
from client.operations.job_control import apply_to_each, cancel
from client.operations.notices import deliver_after_change
from client.views.action_results import print_results
from client.views.output import complain
from lifecycle.states import FINAL, State

AMONG: Final = frozenset(State) - FINAL
"""States in which there is something to cancel."""


def run(env: Environment, jobs: Sequence[str]) -> int:
    """Cancel each of *jobs*; a job that cannot be cancelled does not stop the others.

    Returns:
        0; 1 if a job was not cancelled, which stderr names.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong.
    """
    exit_code = print_results(apply_to_each(env, jobs, cancel))
    for line in deliver_after_change(env, jobs):
        complain(line)
    return exit_code
