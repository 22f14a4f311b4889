"""`holdfast report`: report useful time, losses by cause, and costs; by job, node, kind of machine or workload.

The report is made from the records alone, so it costs as much as `status`.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, TextIO

from client.config.environment import Environment
from client.records.archive_index import ArchiveIndex
from client.records.database import cache_path
from client.records.query import Query
from client.records.reader import Lookup
from client.records.record_index import RecordIndex
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.plot import as_svg
from client.views.progress import progress_bar
from client.views.report import GROUPINGS, HOUR_S, ReportLine, add_up
from client.views.request_costs import RequestPrices
from client.views.text import printable
from client.views.time_accounting import CAUSES
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
        UsageError: *by* is not one of GROUPINGS, or the bucket or its credentials are wrong.
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
        print_table(lines, request_prices, with_cost=bool(hourly_prices))
    for problem in problems:
        complain(problem)
    return int(bool(problems))


def _archived(env: Environment, index: RecordIndex, wanted: Query, problems: list[str]) -> Iterator[Lookup]:
    archive = ArchiveIndex(env, index.db, without_live=True)
    with progress_bar("reading the archive", None) as advance:
        archive.refresh(advance)
    for found in archive.jobs(wanted):
        if found.stored is None:
            problems.append(found.problem or found.job)
        yield found


def print_table(lines: Sequence[ReportLine], prices: RequestPrices, *, with_cost: bool) -> None:
    """Print hours by cause, useful shares and costs, with a note on how the cost of calls was estimated."""
    causes = [cause.replace("_", " ") for cause in CAUSES]
    rows = [["", "jobs", "attempts", *causes, "useful share", *(["cost"] * with_cost), "calls/job", "control/job"]]
    for line in lines:
        hours = [f"{getattr(line.time, cause) / HOUR_S:.2f} h" for cause in CAUSES]
        share = f"{line.time.useful / line.time.owned:.1%}" if line.time.owned else ""
        cost = [f"{line.cost:.2f}"] * with_cost
        calls = f"{line.requests.total / max(len(line.jobs), 1):.0f}"
        control = f"${line.request_cost_per_job(prices):.6f}"
        name = printable(line.name)
        rows.append([name, str(len(line.jobs)), str(line.attempts), *hours, share, *cost, calls, control])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join((row[0].ljust(widths[0]), *rest)).rstrip())
    say(
        f"control/job: calls to queue and bucket, estimated from the records, at ${prices.queue:g} per million to"
        f" the queue, ${prices.write:g} that write or list, ${prices.read:g} that read"
    )


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
