"""The report for people: node time by cause, whose parts add up to 100 %, then waiting, costs and calls."""

from collections.abc import Iterator, Sequence
from math import floor
from typing import Final

from client.views.report import HOUR_S, ReportLine
from client.views.request_costs import RequestPrices
from client.views.text import cut, display_width, pad, printable
from client.views.time_accounting import LABELS, NODE_TIME

LOSS_LABELS: Final = {
    "node": "with nodes that vanished",
    "failure": "with failures of the program",
    "stop": "with stops before it was saved",
}
TENTHS: Final = 1000  # of a percent, in the whole
GAP: Final = "  "
NARROWEST_NAME: Final = 12
EXPENDABLE: Final = ("control/job", "calls/job", "attempts", "waiting")
"""Columns that go first on a narrow terminal, in this order."""


def summary(line: ReportLine, prices: RequestPrices, *, with_cost: bool) -> Iterator[str]:
    """Yield the lines of a report on all jobs: a line for each part of node time."""
    time = line.time
    yield f"{len(line.jobs)} jobs, {line.attempts} attempts"
    yield _part("node time", time.owned, "100.0%" if time.owned else "")
    for cause, share in zip(NODE_TIME, percentages([getattr(time, cause) for cause in NODE_TIME]), strict=True):
        seconds = getattr(time, cause)
        if seconds or cause == "useful":
            yield _part(f"  {LABELS[cause]}", seconds, share)
        if cause == "redo":
            yield from _parts([(line.lost[loss], text) for loss, text in LOSS_LABELS.items()])
    if time.waited:
        yield _part("waiting", time.waited)
        yield from _parts([(time.node_loss, "until another node took over"), (time.idle, "in the queue")])
    if with_cost:
        yield f"{'cost':<12}{line.cost:>10.2f}"
    yield f"{'calls/job':<12}{line.requests.total / max(len(line.jobs), 1):>10.0f}"
    yield f"{'control/job':<12}{f'${line.request_cost_per_job(prices):.6f}':>10}"
    yield _basis(prices)


def table(lines: Sequence[ReportLine], prices: RequestPrices, width: int | None, *, with_cost: bool) -> Iterator[str]:
    """Yield a table with a line for each group, fitted to *width*; None: to any width."""
    causes = [cause for cause in NODE_TIME if cause == "useful" or any(getattr(one.time, cause) for one in lines)]
    head = ["", "jobs", "attempts", "node time", *(LABELS[cause] for cause in causes), "waiting"]
    rows = [[*head, *["cost"] * with_cost, "calls/job", "control/job"]]
    for line in lines:
        shares: dict[str, str] = dict(
            zip(NODE_TIME, percentages([getattr(line.time, cause) for cause in NODE_TIME]), strict=True)
        )
        cost = [f"{line.cost:.2f}"] * with_cost
        calls = f"{line.requests.total / max(len(line.jobs), 1):.0f}"
        control = f"${line.request_cost_per_job(prices):.6f}"
        times = [_hours(line.time.owned), *(shares[cause] for cause in causes), _hours(line.time.waited)]
        rows.append([printable(line.name), str(len(line.jobs)), str(line.attempts), *times, *cost, calls, control])
    columns = _fitted([list(column) for column in zip(*rows, strict=True)], width)
    widths = [max(map(display_width, column)) for column in columns]
    for row in zip(*columns, strict=True):
        rest = [cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True)]
        yield GAP.join([pad(row[0], widths[0]), *rest]).rstrip()
    yield "Shares are of node time."
    yield _basis(prices)


def percentages(parts: Sequence[float]) -> list[str]:
    """Return the shares of *parts* in their sum, rounded so that they add up to 100.0 %; empty texts if it is 0."""
    whole = sum(parts)
    if not whole:
        return [""] * len(parts)
    exact = [part / whole * TENTHS for part in parts]
    tenths = [floor(one) for one in exact]
    by_remainder = sorted(range(len(parts)), key=lambda number: tenths[number] - exact[number])
    for number in by_remainder[: TENTHS - sum(tenths)]:
        tenths[number] += 1
    return [f"{one / 10:.1f}%" for one in tenths]


def _part(name: str, seconds: float, share: str = "") -> str:
    return f"{name:<12}{_hours(seconds):>10}{share:>9}".rstrip()


def _parts(parts: Sequence[tuple[float, str]]) -> Iterator[str]:
    for seconds, text in parts:
        if seconds:
            yield f"    {_hours(seconds)} {text}"


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR_S:.2f} h"


def _basis(prices: RequestPrices) -> str:
    return f"Calls are estimated. Per million: queue ${prices.queue:g}, write ${prices.write:g}, read ${prices.read:g}."


def _fitted(columns: list[list[str]], width: int | None) -> list[list[str]]:
    """Return the columns that fit into *width*; the names are cut if everything expendable is gone."""
    if width is None:
        return columns
    for name in EXPENDABLE:
        if _width(columns) > width:
            columns = [column for column in columns if column[0] != name]
    over = _width(columns) - width
    if over > 0:
        names = max(max(map(display_width, columns[0])) - over, NARROWEST_NAME)
        columns[0] = [cut(name, names) for name in columns[0]]
    return columns


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(display_width, column)) for column in columns) + len(GAP) * (len(columns) - 1)
