"""`holdfast rm JOB…`: remove whole jobs that are over, after asking."""

from collections.abc import Sequence
from typing import Final

from client import options
from client.config.environment import Environment
from client.operations.job_control import apply_to_each
from client.operations.notices import deliver_after_change
from client.operations.removal import Removal, plan_each, remove
from client.views.action_results import ActionResult, print_results
from client.views.output import complain
from client.views.prompt import confirm
from client.views.text import format_size
from lifecycle.states import FINAL

NAMED: Final = 3  # jobs that the question names
AMONG: Final = FINAL
"""States in which a job can be removed."""


def run(env: Environment, jobs: Sequence[str], *, yes: bool, as_json: bool = False) -> int:
    """Remove each of *jobs*: its record, input, checkpoints, outputs and logs. Problems do not stop the others.

    Args:
        env: The environment of the jobs.
        jobs: Ids of the jobs.
        yes: Do not ask for confirmation.
        as_json: Print JSON, one object per job.

    Returns:
        0; 1 if a job was not removed, which stderr names, or if the answer was no.

    Raises:
        ConfigError: There is no terminal to ask on, and *yes* is not set; or the bucket or its credentials are wrong.
    """
    planned = list(plan_each(env, jobs))
    print_results((one for one in planned if isinstance(one, ActionResult)), as_json=as_json)
    removals = [one for one in planned if isinstance(one, Removal)]
    if removals and not (yes or confirm(_question(removals))):
        return 1
    removed = [one.job for one in removals]
    for line in deliver_after_change(env, removed):
        complain(line)
    failed = print_results(apply_to_each(env, removed, remove), as_json=as_json)
    return int(failed or len(removals) < len(planned))


def _question(removals: Sequence[Removal]) -> str:
    size = format_size(sum(one.size_bytes for one in removals))
    more = len(removals) - NAMED
    named = ", ".join(one.job for one in removals[:NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"remove {named} for good, with inputs, checkpoints, outputs and logs ({size})?"


@options.command(
    "rm",
    ("holdfast rm md-1", "Remove a job, after asking."),
    ("holdfast rm -l campaign=test --yes", "Remove all jobs with a label that are over, without asking."),
)
@options.jobs_argument
@options.label_filter
@options.yes_option
@options.json_option
def command(*, jobs: Sequence[str], labels: Sequence[str], yes: bool, as_json: bool) -> int:
    """Remove whole jobs that are over.

    JOB is an id or a pattern such as 'md-*'. Records, inputs, checkpoints, outputs and logs are deleted for good.
    """
    env = options.environment()
    return run(env, options.selected(env, jobs, labels, among=AMONG), yes=yes, as_json=as_json)
