"""`holdfast archive`: move the records of jobs that have been over for long out of the live set."""

import json
from datetime import timedelta
from itertools import islice
from typing import Final

import click

from client import options
from client.config.environment import Environment
from client.operations.archiving import ArchiveResult, archive_batch, is_ripe
from client.records.database import cache_path
from client.records.query import Query
from client.records.record_index import RecordIndex
from client.views.output import complain, say
from client.views.progress import progress_bar
from client.views.text import format_size
from lifecycle.errors import UsageError
from lifecycle.states import FINAL

SHORTEST: Final = timedelta(days=1)
BATCH: Final = 1000  # records in memory, and in a segment
TOO_SHORT: Final = (
    "--older {}: must be at least one day, because a worker may sleep for hours between reading that a job was never"
    " started and starting it"
)


def run(env: Environment, *, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Archive the jobs that have been over for *older*, by the store's clock; with *dry_run*, only list them.

    Returns:
        0; 1 if a job could not be archived, which stderr names. Safe to repeat; a repetition finishes an interrupted
        run.

    Raises:
        UsageError: *older* is too short.
        ConfigError: The bucket or its credentials are wrong.
        RetryableError: The bucket cannot be reached; the next run finishes this one.
    """
    if older < SHORTEST:
        raise UsageError(TOO_SHORT.format(older))
    result = ArchiveResult()
    with RecordIndex(env, cache_path(env)) as index:
        with progress_bar("reading records", None) as advance:
            index.refresh(advance)
        wanted = Query(states=sorted(FINAL), before_s=older.total_seconds())
        jobs = (found.stored for found in index.jobs(wanted) if found.stored)
        ripe = (stored.record for stored in jobs if is_ripe(env, stored, older))
        with progress_bar("archiving", None) as advance:
            while batch := list(islice(ripe, BATCH)):
                for record in batch if dry_run else archive_batch(env, batch, older, result):
                    result.gone[record.state] += 1
                    advance(1)
                    if as_json:
                        say(json.dumps({"job": record.job, "state": record.state, "archived": not dry_run}))
    for problem in result.problems:
        complain(problem)
    if not as_json:
        _print_summary(result, dry_run=dry_run)
    return int(bool(result.problems))


def _print_summary(result: ArchiveResult, *, dry_run: bool) -> None:
    states = ", ".join(f"{count} {state}" for state, count in result.gone.most_common())
    size = f", in {format_size(result.size_bytes)}" if result.size_bytes else ""
    verb = "would be archived" if dry_run else "archived"
    say(f"{result.gone.total()} jobs {verb}{size}{': ' if states else ''}{states}")


@options.command(
    "archive",
    ("holdfast archive --dry-run", "List the jobs that have been over for 30 days."),
    ("holdfast archive --older 7d", "Archive those that have been over for a week."),
)
@click.option("--older", metavar="TIME", type=options.DURATION, default="30d", help="Only jobs over for this long.")
@options.dry_run_option
@options.json_option
def command(*, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Archive the records of jobs that have been over for long.

    Archived records are found by `show`, `status JOB` and `status --archived`, and no longer cost a listing each time.
    The id of an archived job can never be used again.
    """
    return run(options.environment(), older=older, dry_run=dry_run, as_json=as_json)
