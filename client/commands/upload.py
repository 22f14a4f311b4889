"""`holdfast upload DIR`: upload inputs; each sub-folder of DIR is a job, and its files are the job's input."""

from pathlib import Path

import click

from client import options
from client.config.environment import Environment
from client.operations.inputs import plan_uploads, upload_files
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.progress import progress_bar


def run(env: Environment, directory: Path, *, force: bool = False, as_json: bool = False) -> int:
    """Upload the input of every job; a problem with one job does not stop the others.

    Args:
        env: The environment to upload to.
        directory: A folder whose sub-folders are jobs.
        force: Replace the input of unfinished jobs, too.
        as_json: Print JSON, one object.

    Returns:
        0, or 1 if anything was not uploaded, which stderr names.

    Raises:
        UsageError: *directory* has no sub-folders.
        ConfigError: The bucket or its credentials are wrong.
    """
    plan = plan_uploads(env, directory, force=force)
    for problem in plan.problems:
        complain(problem)
    with progress_bar("uploading", sum(one.size_bytes for one in plan.uploads)) as advance:
        failures = upload_files(env, plan.uploads, advance)
    for failure in failures:
        complain(failure)
    files = len(plan.uploads) - len(failures)
    if as_json:
        say(to_json({"jobs": plan.jobs, "files": files, "problems": [*plan.problems, *failures]}))
    else:
        say(f"uploaded {files} files of {plan.jobs} jobs")
    return int(bool(plan.problems or failures))


@options.command(
    "upload",
    ("holdfast upload local_jobs", "Upload local_jobs/a/… as the input of job a, and so on."),
    ("holdfast upload local_jobs --force", "Replace the input of jobs that are not over, too."),
)
@click.argument("directory", metavar="DIR", type=options.FILE)
@click.option("--force", is_flag=True, help="Replace the input of unfinished jobs, too.")
@options.json_option
def command(*, directory: Path, force: bool, as_json: bool) -> int:
    """Upload inputs; each sub-folder of DIR is a job."""
    return run(options.environment(), directory, force=force, as_json=as_json)
