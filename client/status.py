"""`holdfast status`: where the jobs stand, read from their records."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict

from client.bootstrap import Site
from client.records import Found, read_all
from client.storage import human
from lifecycle.ledger import Held
from lifecycle.record import Backlog, CheckpointRef
from lifecycle.states import State

if TYPE_CHECKING:
    from rich.table import Table

WATCH_S: Final = 2.0
HEADS: Final = (
    "job",
    "state",
    "progress",
    "rate",
    "epoch",
    "owner",
    "checkpoint",
    "age",
    "backlog",
    "failures",
    "error",
)
WIDEST_ERROR: Final = 60


def run(site: Site, jobs: Sequence[str], *, as_json: bool, watch: bool, failed: bool = False) -> int:
    """Print the jobs, with *failed* only those that failed, once or, watching, until interrupted.

    Returns:
        0; 1 if a record could not be read, which stderr names.
    """
    if watch and sys.stdout.isatty() and not as_json:
        return _watch(site, jobs, failed=failed)
    found = _read(site, jobs, failed=failed)
    for one in found:
        if as_json and one.held:
            print(json.dumps(as_object(one.held)))
    if not as_json:
        _print_table(found)
    return _problems(found)


def _read(site: Site, jobs: Sequence[str], *, failed: bool) -> list[Found]:
    found = read_all(site, jobs)
    return [one for one in found if not failed or one.held is None or one.held.record.state is State.FAILED]


def as_object(held: Held) -> dict[str, Any]:
    """A record as `--json` gives it; fields are only ever added to it."""
    record = held.record
    return {
        "job": record.job,
        "state": record.state,
        "epoch": record.epoch,
        "owner": record.owner,
        "progress": asdict(record.progress),
        "checkpoint": _checkpoint(record.checkpoint),
        "backlog": _backlog(record.backlog),
        "ran_s": record.ran_s,
        "failures": record.failures,
        "deaths": record.deaths,
        "interruptions": dict(record.interruptions),
        "result": asdict(record.result) if record.result else None,
        "error": record.error,
        "workload": record.workload,
        "params": dict(record.params),
        "dispatch": record.dispatch,
        "stale": is_stale(held),
        "cancel_asked": record.control.cancel,
        "attempts": [asdict(attempt) for attempt in record.attempts],
        "timestamps": asdict(record.timestamps),
    }


def is_stale(held: Held) -> bool:
    """Whether the job has an owner whose lease ran out."""
    return held.record.owner is not None and not held.record.is_owned(held.age_s)


def _checkpoint(ref: CheckpointRef | None) -> dict[str, Any] | None:
    if ref is None:
        return None
    return {"seq": ref.seq, "step": ref.step, "age_s": _since_s(ref.at), "bytes": ref.bytes, "sent": ref.sent}


def _backlog(backlog: Backlog | None) -> dict[str, Any] | None:
    return {"bytes": backlog.bytes, "age_s": _since_s(backlog.since)} if backlog else None


def _since_s(at: str | None) -> float | None:
    """Seconds since *at*, as far as this machine's clock and the node's agree."""
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return None
    return max(round((datetime.now(UTC) - moment).total_seconds(), 1), 0.0)


def _cells(held: Held) -> tuple[str, ...]:
    record, progress = held.record, held.record.progress
    done = "" if progress.done is None else f"{progress.done}/{progress.total or '?'}"
    if progress.done is not None and progress.total:
        done += f" {progress.done / progress.total:.0%}"
    ref = record.checkpoint
    age = _since_s(ref.at) if ref else None
    cells = (
        record.job,
        f"{record.state} (stale)" if is_stale(held) else record.state.value,
        done,
        "" if progress.rate is None else f"{progress.rate:g}/s",
        str(record.epoch),
        record.owner or "",
        "" if ref is None else f"#{ref.seq}" if ref.step is None else f"step {ref.step}",
        "" if age is None else f"{age:.0f}s",
        f"{human(record.backlog.bytes)}, {_since_s(record.backlog.since) or 0:.0f}s" if record.backlog else "",
        str(record.failures or ""),
        (record.error or "").partition("\n")[0][:WIDEST_ERROR],
    )
    # What a workload wrote to stderr must not steer the operator's terminal.
    return tuple("".join(char if char.isprintable() else " " for char in cell) for cell in cells)


def _print_table(found: Sequence[Found]) -> None:
    rows = [HEADS, *(_cells(one.held) for one in found if one.held)]
    if len(rows) > 1:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        shown = [number for number, _ in enumerate(HEADS) if any(row[number] for row in rows[1:])]
        for row in rows:
            print("  ".join(row[number].ljust(widths[number]) for number in shown).rstrip())
    print(summary(found))


def summary(found: Sequence[Found]) -> str:
    """How many jobs there are in each state, in a line."""
    counts = Counter(one.held.record.state.value for one in found if one.held)
    return f"{counts.total()} jobs" + "".join(f", {count} {state}" for state, count in counts.most_common())


def _problems(found: Sequence[Found]) -> int:
    problems = [one.problem for one in found if one.problem]
    for problem in problems:
        print(f"holdfast: {problem}", file=sys.stderr)
    return int(bool(problems))


def _watch(site: Site, jobs: Sequence[str], *, failed: bool) -> int:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            live.update(rich_table(_read(site, jobs, failed=failed)), refresh=True)
            time.sleep(WATCH_S)


def rich_table(found: Sequence[Found]) -> "Table":
    """The table for a terminal; every text stands there as it is, brackets included."""
    from rich.table import Table
    from rich.text import Text

    unreadable = sum(one.problem is not None for one in found)
    caption = summary(found) + (f"; {unreadable} cannot be read" if unreadable else "")
    table = Table(*HEADS, caption=Text(caption))
    for one in found:
        if one.held:
            table.add_row(*(Text(cell) for cell in _cells(one.held)))
    return table
