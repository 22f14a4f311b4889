"""`holdfast report`: what the time of jobs went to: useful, or lost to what; by node, kind of machine, or job.

From the records alone, so it costs what `status` costs. Prices turn the time that nodes worked into money.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TextIO

from attrs import asdict, define, field

from client.commands.status import printable
from client.config.composition import Environment
from client.records.archive_index import ArchiveIndex
from client.records.database import cache_path
from client.records.reader import Found
from client.records.record_index import Query, RecordIndex
from client.views.plot import as_svg
from client.views.progress import bar
from client.views.request_costs import Calls, Prices, of_attempt, of_job
from client.views.time_accounting import CAUSES, Spent, TimeEntry, account, entries
from lifecycle.errors import ConfigError
from lifecycle.job_record import JobRecord

HOUR_S: Final = 3600.0
ANY_KIND: Final = ""
LIST_PRICES: Final = Prices()
BY: Final = ("all", "job", "node", "kind", "workload")


@define
class Line:
    """One line of the report: what it is of, its jobs and attempts, its time, and what that cost."""

    name: str
    jobs: set[str] = field(factory=set)
    attempts: int = 0
    spent: Spent = field(factory=Spent)
    cost: float = 0.0
    calls: Calls = field(factory=Calls)

    def add(self, job: str, spent: Spent, calls: Calls, *, attempts: int, price: float) -> None:
        """Count *spent* and *calls* of *job*, at *price* an hour that a node works."""
        self.jobs.add(job)
        self.attempts += attempts
        self.spent += spent
        self.calls += calls
        self.cost += spent.stored / HOUR_S * price

    def control(self, prices: Prices) -> float:
        """What the calls to the queue and the bucket cost for each job, in dollars; an estimate."""
        return self.calls.cost(prices) / len(self.jobs) if self.jobs else 0.0

    def as_object(self, prices: Prices) -> dict[str, Any]:
        """For machines: hours, rounded to a second or so; calls, and what they cost at *prices*."""
        hours = {f"{name}_h": round(seconds / HOUR_S, 4) for name, seconds in asdict(self.spent).items()}
        share = round(self.spent.useful / self.spent.stored, 4) if self.spent.stored else None
        return {
            "name": self.name,
            "jobs": len(self.jobs),
            "attempts": self.attempts,
            **hours,
            "useful_share": share,
            "cost": round(self.cost, 4),
            "queue_calls": round(self.calls.queue),
            "store_writes": round(self.calls.write),
            "store_reads": round(self.calls.read),
            "control_cost": round(self.calls.cost(prices), 6),
            "control_cost_per_job": round(self.control(prices), 8),
        }


def prices(texts: Sequence[str]) -> dict[str, float]:
    """Prices an hour, by kind of machine: `0.25` for any, `RTX 4090=0.25` for one.

    Raises:
        ConfigError: One is none.
    """
    read = {}
    for text in texts:
        kind, _, price = text.rpartition("=")
        try:
            read[kind] = float(price)
        except ValueError as error:
            raise ConfigError(f"--price {text!r} is neither PRICE nor KIND=PRICE, an hour") from error
        if not 0 <= read[kind] < float("inf"):
            raise ConfigError(f"--price {text!r} is no price")
    return read


def run(  # noqa: PLR0913 - a form
    env: Environment,
    wanted: Query,
    *,
    by: str,
    given: Mapping[str, float],
    as_json: bool,
    file: Path | None,
    plot: Path | None,
    archived: bool = False,
    call_prices: Prices = LIST_PRICES,
) -> int:
    """Print the report; as a table, or JSON, a line each.

    Args:
        env: Where.
        wanted: Which jobs.
        by: What a line is of, one of BY.
        given: Prices an hour.
        as_json: For machines.
        file: Written as CSV too.
        plot: Written as SVG too.
        archived: Whether archived jobs count too.
        call_prices: Of a million calls to the queue and the bucket.

    Returns:
        0; 1 if a record could not be read, which stderr names.

    Raises:
        ConfigError: *by* is nothing that a line can be of.
        OSError: A file cannot be written.
    """
    if by not in BY:
        raise ConfigError(f"--by {by}: is none of {', '.join(BY)}")
    with RecordIndex(env, cache_path(env)) as index:
        with bar("reading records", None) as advance:
            index.refresh(advance)
        problems = index.problems()
        everything = index.jobs(wanted)
        if archived:
            everything = chain(everything, _archived(env, index, wanted, problems))
        records = (found.stored.record for found in everything if found.stored)
        lines = gather(records, by=by, given=given)
    if file:
        with file.open("w", newline="") as out:
            write_csv(lines, out, call_prices)
    if plot:
        plot.write_text(as_svg([(line.name, line.spent) for line in lines]))
    if as_json:
        for line in lines:
            print(json.dumps(line.as_object(call_prices)))
    else:
        print_table(lines, call_prices, with_cost=bool(given))
    for problem in problems:
        print(f"holdfast: {problem}", file=sys.stderr)
    return int(bool(problems))


def _archived(env: Environment, index: RecordIndex, wanted: Query, problems: list[str]) -> Iterator[Found]:
    archive = ArchiveIndex(env, index.db, without_live=True)
    with bar("reading the archive", None) as advance:
        archive.refresh(advance)
    for found in archive.jobs(wanted):
        if found.stored is None:
            problems.append(found.problem or found.job)
        yield found


def gather(records: Iterable[JobRecord], *, by: str, given: Mapping[str, float]) -> list[Line]:
    """Add up; the longest first.

    What a job waited in the queue before its first attempt is nobody's, and so are the calls that submit and publish
    it: they count for the job, not for a node.
    """
    lines: dict[str, Line] = {}
    for record in records:
        found = list(entries(record))
        for entry in found:
            price = given.get(entry.attempt.kind, given.get(ANY_KIND, 0.0))
            line = lines.setdefault(_name(by, record, entry), Line(_name(by, record, entry)))
            line.add(record.job, entry.spent, of_attempt(record, entry), attempts=1, price=price)
        if by not in {"node", "kind"}:
            line = lines.setdefault(_name(by, record, None), Line(_name(by, record, None)))
            waited = account(record).idle - sum(entry.spent.idle for entry in found)  # before the first attempt
            line.add(record.job, Spent(idle=max(waited, 0.0)), of_job(record), attempts=0, price=0.0)
    return sorted(lines.values(), key=lambda line: (-line.spent.total, line.name))


def _name(by: str, record: JobRecord, entry: TimeEntry | None) -> str:
    match by:
        case "job":
            return record.job
        case "workload":
            return record.workload
        case "node" if entry:
            return entry.attempt.node
        case "kind" if entry:
            return entry.attempt.kind or "(not said)"
    return "all jobs"


def print_table(lines: Sequence[Line], call_prices: Prices, *, with_cost: bool) -> None:
    """Hours, and their shares, for people; then what the control plane cost, and how that was estimated."""
    causes = [name.replace("_", " ") for name in CAUSES]
    rows = [["", "jobs", "attempts", *causes, "useful share", *(["cost"] * with_cost), "calls/job", "control/job"]]
    for line in lines:
        hours = [f"{getattr(line.spent, name) / HOUR_S:.2f} h" for name in CAUSES]
        share = f"{line.spent.useful / line.spent.stored:.1%}" if line.spent.stored else ""
        cost = [f"{line.cost:.2f}"] * with_cost
        control = [f"{line.calls.total / max(len(line.jobs), 1):.0f}", f"${line.control(call_prices):.6f}"]
        rows.append([printable(line.name), str(len(line.jobs)), str(line.attempts), *hours, share, *cost, *control])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join((row[0].ljust(widths[0]), *rest)).rstrip())
    print(
        f"control/job: calls to queue and bucket, estimated from the records, at ${call_prices.queue:g} a million to"
        f" the queue, ${call_prices.write:g} that write or list, ${call_prices.read:g} that read"
    )


def write_csv(lines: Sequence[Line], out: TextIO, call_prices: Prices) -> None:
    """The same as `--json` gives, with a line of heads."""
    writer = csv.DictWriter(out, list(Line("").as_object(call_prices)))
    writer.writeheader()
    writer.writerows(line.as_object(call_prices) for line in lines)
