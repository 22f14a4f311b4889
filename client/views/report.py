"""A report: useful time, losses and costs, added up per job, node, kind of machine or workload."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import asdict, define, field

from client.views.request_costs import RequestCounts, RequestPrices, attempt_requests, job_requests
from client.views.time_accounting import VANISHED, AttemptTime, TimeBreakdown, attempt_times, job_time
from lifecycle.errors import UsageError
from lifecycle.job_record import AttemptSummary, JobRecord

HOUR_S: Final = 3600.0
ANY_KIND: Final = ""
GROUPINGS: Final = ("all", "job", "node", "kind", "workload")
ALL_JOBS: Final = "all jobs"
UNKNOWN_KIND: Final = "(not set)"
FAILURES: Final = frozenset({"workload_failed", "wall_time", "invalid"})
LOSSES: Final = ("node", "failure", "stop")
"""Causes of lost work: the node vanished; the workload failed; the attempt was stopped before it had saved."""


@define
class ReportLine:
    """A line of the report.

    Attributes:
        name: The job, node, kind or workload.
        jobs: Its jobs.
        attempts: Number of its attempts.
        time: Its time.
        cost: Cost of the time during which nodes owned its jobs.
        requests: Its calls to the queue and the bucket, estimated.
        lost: Seconds of lost work by cause, one of LOSSES; they add up to `time.redo`.
    """

    name: str
    jobs: set[str] = field(factory=set)
    attempts: int = 0
    time: TimeBreakdown = field(factory=TimeBreakdown)
    cost: float = 0.0
    requests: RequestCounts = field(factory=RequestCounts)
    lost: dict[str, float] = field(factory=lambda: dict.fromkeys(LOSSES, 0.0))

    def add(self, job: str, time: TimeBreakdown, requests: RequestCounts, *, attempts: int, price: float) -> None:
        """Add time and calls of *job*, at *price* per hour of a node."""
        self.jobs.add(job)
        self.attempts += attempts
        self.time += time
        self.requests += requests
        self.cost += time.owned / HOUR_S * price

    def add_attempt(self, job: str, one: AttemptTime, requests: RequestCounts, *, price: float) -> None:
        """Add an attempt at *job*, at *price* per hour of its node."""
        self.add(job, one.time, requests, attempts=1, price=price)
        self.lost[_loss(one.attempt)] += one.time.redo

    def request_cost_per_job(self, prices: RequestPrices) -> float:
        """Return the estimated cost of the calls per job, in dollars."""
        return self.requests.cost(prices) / len(self.jobs) if self.jobs else 0.0

    def as_object(self, prices: RequestPrices) -> dict[str, Any]:
        """Return the line for `--json` and `--csv`: hours to four decimals, calls, and their cost at *prices*."""
        hours = {f"{cause}_h": round(seconds / HOUR_S, 4) for cause, seconds in asdict(self.time).items()}
        lost = {f"lost_{cause}_h": round(seconds / HOUR_S, 4) for cause, seconds in self.lost.items()}
        share = self.time.useful_share
        return {
            "name": self.name,
            "jobs": len(self.jobs),
            "attempts": self.attempts,
            **hours,
            "node_h": round(self.time.owned / HOUR_S, 4),
            "useful_share": None if share is None else round(share, 4),
            **lost,
            "cost": round(self.cost, 4),
            "queue_calls": round(self.requests.queue),
            "store_writes": round(self.requests.write),
            "store_reads": round(self.requests.read),
            "control_cost": round(self.requests.cost(prices), 6),
            "control_cost_per_job": round(self.request_cost_per_job(prices), 8),
        }


def parse_hourly_prices(texts: Sequence[str]) -> dict[str, float]:
    """Read prices per hour by kind of machine: `0.25` for any kind, `RTX 4090=0.25` for one.

    Raises:
        UsageError: A price is invalid.
    """
    prices = {}
    for text in texts:
        kind, _, price = text.rpartition("=")
        try:
            prices[kind] = float(price)
        except ValueError as error:
            raise UsageError(f"--price {text!r} is neither PRICE nor KIND=PRICE, per hour") from error
        if not 0 <= prices[kind] < float("inf"):
            raise UsageError(f"--price {text!r}: PRICE must be zero or more")
    return prices


def add_up(records: Iterable[JobRecord], *, by: str, hourly_prices: Mapping[str, float]) -> list[ReportLine]:
    """Add up the time and calls of *records*, a line per group; the lines with the most time come first.

    The wait for the first attempt, and the calls of the submit and the publishing, belong to no node or kind, so they
    are left out of reports by those.

    Args:
        records: The jobs.
        by: One of GROUPINGS.
        hourly_prices: Prices by kind of machine; ANY_KIND for other kinds.
    """
    lines: dict[str, ReportLine] = {}

    def line(name: str) -> ReportLine:
        return lines.setdefault(name, ReportLine(name))

    for record in records:
        found = list(attempt_times(record))
        for one in found:
            price = hourly_prices.get(one.attempt.kind, hourly_prices.get(ANY_KIND, 0.0))
            requests = attempt_requests(record, one)
            line(_group(by, record, one)).add_attempt(record.job, one, requests, price=price)
        if by not in {"node", "kind"}:
            waited = job_time(record).idle - sum(one.time.idle for one in found)  # before the first attempt
            time = TimeBreakdown(idle=max(waited, 0.0))
            line(_group(by, record, None)).add(record.job, time, job_requests(record), attempts=0, price=0.0)
    return sorted(lines.values(), key=lambda one: (-one.time.total, one.name))


def _loss(attempt: AttemptSummary) -> str:
    if attempt.outcome == VANISHED:
        return "node"
    return "failure" if attempt.outcome in FAILURES else "stop"


def _group(by: str, record: JobRecord, one: AttemptTime | None) -> str:
    match by:
        case "job":
            return record.job
        case "workload":
            return record.workload
        case "node" if one:
            return one.attempt.node
        case "kind" if one:
            return one.attempt.kind or UNKNOWN_KIND
    return ALL_JOBS
