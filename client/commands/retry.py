"""`holdfast retry JOB…`: reopen failed or cancelled jobs, from their last checkpoint, an earlier one, or the start."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import click

from client import options
from client.config.environment import Environment
from client.operations.job_control import apply_to_each, retry, retry_from_checkpoint, retry_from_start
from client.operations.notices import deliver_after_change
from client.views.action_results import print_results
from client.views.output import complain
from lifecycle.errors import UsageError
from lifecycle.states import State

AMONG: Final = frozenset({State.FAILED, State.CANCELLED})
"""States in which a job can be reopened."""


def run(
    env: Environment,
    jobs: Sequence[str],
    *,
    from_start: bool = False,
    from_checkpoint: str | None = None,
    as_json: bool = False,
) -> int:
    """Reopen each of *jobs*; a job that cannot be reopened does not stop the others.

    Args:
        env: The environment of the jobs.
        jobs: Their ids.
        from_start: Begin from the input.
        from_checkpoint: Go on from this checkpoint, `previous` or a number; None: from the last.
        as_json: Print JSON, one object per job.

    Returns:
        0; 1 if a job was not reopened, or its message was not sent, which stderr names.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong.
    """
    action = retry_from_start if from_start else retry
    if from_checkpoint:
        action = partial(retry_from_checkpoint, wanted=from_checkpoint)
    exit_code = print_results(apply_to_each(env, jobs, action), as_json=as_json)
    for line in deliver_after_change(env, jobs):
        complain(line)
    return exit_code


def _checkpoint(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Parse the number of a checkpoint, or the word for the one before."""
    return text if text in {None, "previous"} else str(options.COUNT.convert(text, option, context))


@options.command(
    "retry",
    ("holdfast retry md-1", "Continue a job from its last checkpoint."),
    ("holdfast retry --failed 'md-*' --from-start", "Begin anew with all failed jobs whose ids match."),
)
@options.jobs_argument
@options.label_filter
@click.option("--failed", is_flag=True, help="Only failed jobs; without JOB: all of them.")
@click.option("--from-start", is_flag=True, help="Discard the checkpoints.")
@click.option("--from-checkpoint", metavar="previous|N", callback=_checkpoint, help="Go on from an earlier checkpoint.")
@options.json_option
def command(
    *,
    jobs: Sequence[str],
    labels: Sequence[str],
    failed: bool,
    from_start: bool,
    from_checkpoint: str | None,
    as_json: bool,
) -> int:
    """Reopen failed or cancelled jobs.

    JOB is an id or a pattern such as 'md-*'. `holdfast checkpoints` lists the checkpoints that a job can go on from.
    """
    if from_start and from_checkpoint:
        raise UsageError("--from-start and --from-checkpoint exclude each other: give one of them")
    env = options.environment()
    states = [State.FAILED] if failed else []
    found = options.selected(env, jobs, labels, states=states, among=AMONG)
    return run(env, found, from_start=from_start, from_checkpoint=from_checkpoint, as_json=as_json)
