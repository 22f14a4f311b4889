"""`holdfast cancel JOB…`: cancel jobs, at once or at their owner's next heartbeat."""

from collections.abc import Sequence
from typing import Final

from client import options
from client.config.environment import Environment
from client.operations.job_control import apply_to_each, cancel
from client.operations.notices import deliver_after_change
from client.views.action_results import print_results
from client.views.output import complain
from lifecycle.states import FINAL, State

AMONG: Final = frozenset(State) - FINAL
"""States in which there is something to cancel."""


def run(env: Environment, jobs: Sequence[str], *, as_json: bool = False) -> int:
    """Cancel each of *jobs*; a job that cannot be cancelled does not stop the others.

    Returns:
        0; 1 if a job was not cancelled, which stderr names.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong.
    """
    exit_code = print_results(apply_to_each(env, jobs, cancel), as_json=as_json)
    for line in deliver_after_change(env, jobs):
        complain(line)
    return exit_code


@options.command(
    "cancel",
    ("holdfast cancel md-1 md-2", "Cancel two jobs."),
    ("holdfast cancel -l team=bio", "Cancel all unfinished jobs with a label."),
)
@options.jobs_argument
@options.label_filter
@options.json_option
def command(*, jobs: Sequence[str], labels: Sequence[str], as_json: bool) -> int:
    """Cancel jobs.

    JOB is an id or a pattern such as 'md-*'. A job without an owner is cancelled at once, any other at its owner's next
    heartbeat. Checkpoints stay: `holdfast retry` continues from the last one.
    """
    env = options.environment()
    return run(env, options.selected(env, jobs, labels, among=AMONG), as_json=as_json)
