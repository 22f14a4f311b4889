"""`holdfast report`: report useful time, losses by cause, and costs; by job, node, kind of machine or workload.

The report is made from the records alone, so it costs as much as `status`.
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, TextIO

import click

from client import options
from client.config.environment import Environment
from client.records.archive_index import ArchiveIndex
from client.records.database import cache_path
from client.records.query import Query, parse_query
from client.records.reader import Lookup
from client.records.record_index import RecordIndex
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.plot import as_svg
from client.views.progress import progress_bar
from client.views.report import ALL_JOBS, GROUPINGS, ReportLine, add_up, parse_hourly_prices
from client.views.report_table import summary, table
from client.views.request_costs import RequestPrices, parse_request_prices
from client.views.terminal import width_of
from lifecycle.errors import UsageError

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # first characters
LIST_PRICES: Final = RequestPrices()


def run(  # noqa: PLR0913 - one argument per option
    env: Environment,
    wanted: Query,
    *,
    by: str,
    hourly_prices: Mapping[str, float],
    as_json: bool,
    file: Path | None,
    plot: Path | None,
    archived: bool = False,
    request_prices: RequestPrices = LIST_PRICES,
) -> int:
    """Print the report, as a table or as JSON lines.

    Args:
        env: The environment of the jobs.
        wanted: The jobs to report on.
        by: One of GROUPINGS: what each line adds up.
        hourly_prices: Prices per hour by kind of machine.
        as_json: Print JSON, one object per line.
        file: Also write the report to this CSV file.
        plot: Also draw it to this SVG file.
        archived: Include archived jobs.
        request_prices: Prices per million calls to the queue and the bucket.

    Returns:
        0; 1 if a record could not be read, which stderr names.

    Raises:
        UsageError: *by* is not one of GROUPINGS.
        ConfigError: The bucket or its credentials are wrong.
        OSError: A file cannot be written.
    """
    if by not in GROUPINGS:
        raise UsageError(f"--by {by}: must be one of {', '.join(GROUPINGS)}")
    with RecordIndex(env, cache_path(env)) as index:
        with progress_bar("reading records", None) as advance:
            index.refresh(advance)
        problems = index.problems()
        jobs = index.jobs(wanted)
        if archived:
            jobs = chain(jobs, _archived(env, index, wanted, problems))
        records = (found.stored.record for found in jobs if found.stored)
        lines = add_up(records, by=by, hourly_prices=hourly_prices)
    if file:
        with file.open("w", newline="", encoding="utf-8") as out:
            write_csv(lines, out, request_prices)
    if plot:
        plot.write_text(as_svg([(line.name, line.time) for line in lines]), encoding="utf-8")
    if as_json:
        for line in lines:
            say(to_json(line.as_object(request_prices)))
    else:
        for text in _lines(lines, request_prices, by=by, with_cost=bool(hourly_prices)):
            say(text)
    for problem in problems:
        complain(problem)
    return int(bool(problems))


def _lines(lines: Sequence[ReportLine], prices: RequestPrices, *, by: str, with_cost: bool) -> Iterator[str]:
    """Return the report for people: all jobs in detail, or a table of groups."""
    if by == "all":
        whole = lines[0] if lines else ReportLine(ALL_JOBS)
        return summary(whole, prices, with_cost=with_cost)
    return table(lines, prices, width_of(sys.stdout), with_cost=with_cost)


def _archived(env: Environment, index: RecordIndex, wanted: Query, problems: list[str]) -> Iterator[Lookup]:
    archive = ArchiveIndex(env, index.db, without_live=True)
    with progress_bar("reading the archive", None) as advance:
        archive.refresh(advance)
    for found in archive.jobs(wanted):
        if found.stored is None:
            problems.append(found.problem or found.job)
        yield found


def write_csv(lines: Sequence[ReportLine], out: TextIO, prices: RequestPrices) -> None:
    """Write the objects of `--json` as CSV, with a header; no text is a formula for a spreadsheet."""
    writer = csv.DictWriter(out, list(ReportLine("").as_object(prices)))
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _literal(value) for name, value in line.as_object(prices).items()})


def _literal(value: object) -> object:
    """Return *value*; a text that a spreadsheet would take for a formula, after an apostrophe.

    See https://owasp.org/www-community/attacks/CSV_Injection.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


@options.command(
    "report",
    ("holdfast report --price 0.25", "Report on all jobs, at 0.25 per hour of a node."),
    ("holdfast report --by kind --csv report.csv", "Compare kinds of machines, and write a table."),
)
@click.option("--by", type=click.Choice(GROUPINGS), default="all", help="Add up by this.")
@options.label_filter
@options.since_option
@click.option(
    "--price",
    "prices",
    metavar="[KIND=]PRICE",
    multiple=True,
    help="Price per hour, of a NODE_KIND or of all; may be repeated.",
)
@click.option(
    "--call-price",
    "call_prices",
    metavar="KIND=PRICE",
    multiple=True,
    help="Price per million calls: queue, write or read.",
)
@click.option("--archived", is_flag=True, help="Include archived jobs.")
@click.option("--csv", "file", metavar="FILE", type=options.FILE, help="Also write the report to FILE.")
@click.option("--plot", metavar="FILE", type=options.FILE, help="Also draw the report to FILE, in SVG.")
@options.json_option
def command(  # noqa: PLR0913 - one argument per option
    *,
    by: str,
    labels: Sequence[str],
    since: str | None,
    prices: Sequence[str],
    call_prices: Sequence[str],
    archived: bool,
    file: Path | None,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Report useful time, losses and costs.

    The parts of node time add up to 100 %: useful, lost, without a result, loading and saving.
    """
    return run(
        options.environment(),
        parse_query(labels=labels, since=since),
        by=by,
        hourly_prices=parse_hourly_prices(prices),
        as_json=as_json,
        file=file,
        plot=plot,
        archived=archived,
        request_prices=parse_request_prices(call_prices),
    )
