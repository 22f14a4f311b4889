"""`holdfast status`: list jobs; a few by their records, or many from the record index."""

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import click
from attrs import evolve

from client import options
from client.config.environment import Environment
from client.records.archive_index import ArchiveIndex
from client.records.database import cache_path
from client.records.elsewhere import jobs_elsewhere
from client.records.query import EVERYTHING, ORDERS, Query, is_pattern, parse_query
from client.records.record_index import RecordIndex
from client.views.job_json import job_object
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.progress import progress_bar
from client.views.status_table import StatusTable
from client.views.terminal import PLAIN, width_of, write_line
from client.views.text import printable
from lifecycle.errors import RetryableError, UsageError
from lifecycle.record.record_store import StoredRecord

if TYPE_CHECKING:
    from rich.text import Text

WATCH_S: Final = 2.0
MEASURED: Final = 1000  # jobs from which the width of each column is taken
OUTPUTS: Final = ("wide", "name", "json")
Jobs = RecordIndex | ArchiveIndex


def run(
    env: Environment,
    jobs: Sequence[str],
    wanted: Query,
    *,
    as_json: bool,
    watch: bool,
    archived: bool = False,
    output: str | None = None,
) -> int:
    """Print the jobs of a query.

    Args:
        env: The environment of the jobs.
        jobs: Only the jobs with these ids or patterns; empty: all.
        wanted: The query.
        as_json: Print JSON, one object per line.
        watch: On a terminal, print them again and again until interrupted.
        archived: Print archived jobs instead of live ones.
        output: One of OUTPUTS: `wide` for all columns at full width, `name` for job ids alone; None: fit the terminal.

    Returns:
        0; 1 if a record could not be read, which stderr names. If there are no jobs, stderr says where others are.

    Raises:
        UsageError: *output* is not one of OUTPUTS.
        ConfigError: The bucket or its credentials are wrong.
    """
    if output not in {None, *OUTPUTS}:
        raise UsageError(f"--output {output}: must be one of {', '.join(OUTPUTS)}")
    if any(map(is_pattern, jobs)):
        wanted, jobs = evolve(wanted, names=jobs), ()
    path = None if jobs and not archived else cache_path(env)
    with RecordIndex(env, path, jobs) as live:
        index = ArchiveIndex(env, live.db, jobs) if archived else live
        width = None if output == "wide" else width_of(sys.stdout)
        if watch and sys.stdout.isatty() and not (as_json or output in {"name", "json"}):
            return _watch(index, wanted, is_wide=output == "wide")
        problems: list[str] = []
        with progress_bar("reading records", None) as advance:
            index.refresh(advance)
        if as_json or output == "json":
            for one in _records(index, wanted, problems):
                say(to_json(job_object(one)))
        elif output == "name":
            for one in _records(index, wanted, problems):
                say(one.record.job)
        else:
            _print_table(index, wanted, problems, width)
        problems += index.problems()
        problems += _without_match(index, wanted.names)
        elsewhere = None if jobs or archived or wanted.names or live.count(EVERYTHING) else jobs_elsewhere(env)
    if elsewhere:
        complain(elsewhere)
    for problem in problems:
        complain(problem)
    return int(bool(problems))


def _without_match(index: Jobs, names: Sequence[str]) -> list[str]:
    """Return a line for each name or pattern that no job has."""
    return [f"no job matches {name!r}" for name in names if not index.count(Query(names=[name]))]


def _records(index: Jobs, wanted: Query, problems: list[str]) -> Iterator[StoredRecord]:
    """Yield the records of *wanted*. Adds to *problems* the archived records that cannot be read."""
    for one in index.jobs(wanted):
        if one.stored:
            yield one.stored
        elif isinstance(index, ArchiveIndex):
            problems.append(one.problem or one.job)


def _print_table(index: Jobs, wanted: Query, problems: list[str], width: int | None) -> None:
    """Print a table; its widths are those of the first jobs, so not all jobs need to be in memory."""
    found = _records(index, wanted, problems)
    first = list(islice(found, MEASURED))
    if first:
        table = StatusTable.for_jobs(first, width)
        write_line(table.header())
        for stored in chain(first, found):
            write_line(table.row(stored))
    say(_wrapped(summary(index, wanted), width))


def _wrapped(text: str, width: int | None) -> str:
    return text if width is None else textwrap.fill(text, width)


def summary(index: Jobs, wanted: Query) -> str:
    """Return a line with the number of jobs in each state, and of stale ones."""
    counts, stale = index.count(wanted), sum(index.count(evolve(wanted, stale=True)).values())
    text = f"{sum(counts.values())} jobs" + "".join(f", {count} {state}" for state, count in counts.items())
    return text + (f"; {stale} of them stale" if stale else "")


def _watch(index: Jobs, wanted: Query, *, is_wide: bool) -> int:
    from rich.live import Live

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            note = _refresh(index)
            size = live.console.size
            fitting = max(size.height - 6, 1)
            shown = evolve(wanted, limit=min(wanted.limit or fitting, fitting))
            live.update(screen(index, shown, note, None if is_wide else size.width), refresh=True)
            time.sleep(WATCH_S)


def _refresh(index: Jobs) -> str:
    """Refresh; if that fails, return a note for the table, which then shows the records read before."""
    try:
        index.refresh()
    except RetryableError as error:
        return f"; not refreshed: {error}"
    return ""


def screen(index: Jobs, wanted: Query, note: str, width: int | None) -> "Text":
    """Return the table that `--watch` shows, a line per job, with the summary and *note* below it.

    Args:
        index: The records.
        wanted: The query; its limit applies to the lines, not to the summary.
        note: Text after the summary.
        width: Columns of the terminal; None: do not fit the table to it.
    """
    from rich.text import Text

    jobs = [one.stored for one in index.jobs(wanted) if one.stored]
    table = StatusTable.for_jobs(jobs, width)
    lines = [table.header(), *map(table.row, jobs)] if jobs else []
    below = summary(index, evolve(wanted, limit=None)) + printable(note)
    lines.append([(_wrapped(below, width), PLAIN)])
    spans = [(text, style) for line in lines for text, style in (*line, ("\n", PLAIN))]
    return Text.assemble(*spans[:-1], no_wrap=True, overflow="ignore")


@options.command(
    "status",
    ("holdfast status --watch", "Show all jobs, again every two seconds."),
    ("holdfast status 'md-*' --failed -o name", "Print the ids of failed jobs that match, for a script."),
)
@options.jobs_argument
@options.label_filter
@click.option("--state", "states", metavar="STATE", multiple=True, help="Only jobs in STATE; may be repeated.")
@click.option("--failed", is_flag=True, help="Only failed jobs.")
@click.option("--stale", is_flag=True, help="Only jobs whose owner's lease has expired.")
@options.since_option
@click.option("--archived", is_flag=True, help="Archived jobs instead of live ones.")
@click.option("--sort", type=click.Choice([*ORDERS]), default="job", help="The order.")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", metavar="N", type=options.COUNT, help="At most N jobs.")
@click.option("--watch", is_flag=True, help="Print again every two seconds.")
@click.option(
    "-o", "--output", type=click.Choice(OUTPUTS), help="All columns at full width; job ids alone; or as --json."
)
@options.json_option
def command(  # noqa: PLR0913 - one argument per option
    *,
    jobs: Sequence[str],
    labels: Sequence[str],
    states: Sequence[str],
    failed: bool,
    stale: bool,
    since: str | None,
    archived: bool,
    sort: str,
    reverse: bool,
    limit: int | None,
    watch: bool,
    output: str | None,
    as_json: bool,
) -> int:
    """List jobs and count them by state.

    JOB is an id or a pattern such as 'md-*'; without JOB, all jobs. The table fits the terminal.
    """
    query = parse_query(
        states=[*states, *(["failed"] if failed else [])],
        stale=stale,
        labels=labels,
        since=since,
        sort=sort,
        reverse=reverse,
        limit=limit,
    )
    env = options.environment(named=True)
    return run(env, jobs, query, as_json=as_json, watch=watch, archived=archived, output=output)
