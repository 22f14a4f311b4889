"""`holdfast download DIR`: download outputs and logs, and verify each byte."""

from collections.abc import Sequence
from pathlib import Path

import click

from client import options
from client.config.environment import Environment
from client.operations.downloading import fetch_all, finish_trees, plan_downloads
from client.records.reader import read_all
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.progress import progress_bar
from client.views.text import format_size


def run(env: Environment, directory: Path, jobs: Sequence[str], *, state: bool, as_json: bool = False) -> int:
    """Download into DIR/JOB/: `log/` of all jobs, `output/` of completed ones, and with *state* the last checkpoint.

    Files that are already there and correct are not downloaded again.

    Returns:
        0; 1 if anything is missing or damaged, which stderr names.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
        RetryableError: The bucket cannot be listed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = list(read_all(env, jobs))
    plan = plan_downloads(env, found, directory, state=state)
    with progress_bar("downloading", len(plan.fetches)) as advance:
        received, failures = fetch_all(plan.fetches, advance)
    omitted, unfinished = finish_trees(plan.trees)
    for link in omitted:
        complain(f"{link}: left out, because it leads out of the folder")
    problems = [*plan.problems, *failures, *unfinished]
    for problem in problems:
        complain(problem)
    completed = sum(one.stored is not None and one.stored.record.result is not None for one in found)
    files = len(plan.fetches) - len(failures)
    if as_json:
        say(to_json({"completed": completed, "files": files, "bytes": received, "problems": problems}))
    else:
        say(f"{completed} completed jobs, {files} files, {format_size(received)} downloaded, in {directory}")
    return int(bool(problems))


@options.command(
    "download",
    ("holdfast download results", "Download the outputs and logs of all jobs into results/JOB/."),
    ("holdfast download results 'md-*' --state", "Of some jobs, with their last checkpoints."),
)
@click.argument("directory", metavar="DIR", type=options.FILE)
@options.jobs_argument
@options.label_filter
@click.option("--state", is_flag=True, help="Download the last checkpoint, too.")
@options.json_option
def command(*, directory: Path, jobs: Sequence[str], labels: Sequence[str], state: bool, as_json: bool) -> int:
    """Download outputs and logs, and verify each byte.

    JOB is an id or a pattern such as 'md-*'; without JOB, all jobs. Files that are already in DIR and correct are not
    downloaded again.
    """
    env = options.environment()
    return run(
        env, directory, options.selected(env, jobs, labels) if jobs or labels else [], state=state, as_json=as_json
    )
