"""`holdfast status`: where the jobs stand, read from their records."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import asdict

from client.bootstrap import Site
from client.records import Found, read_all
from lifecycle.ledger import Held
from lifecycle.record import CheckpointRef

WATCH_S: Final = 2.0
HEADS: Final = ("job", "state", "progress", "rate", "epoch", "owner", "checkpoint", "age", "failures", "error")
WIDEST_ERROR: Final = 60


def run(site: Site, jobs: Sequence[str], *, as_json: bool, watch: bool) -> int:
    """Print the jobs, once or, watching, until interrupted.

    Returns:
        0; 1 if a record could not be read, which stderr names.
    """
    if watch and sys.stdout.isatty() and not as_json:
        return _watch(site, jobs)
    found = list(read_all(site, jobs))
    for one in found:
        if as_json and one.held:
            print(json.dumps(as_object(one.held)))
    if not as_json:
        _print_table(found)
    return _problems(found)


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
    return {"seq": ref.seq, "step": ref.step, "age_s": _age_s(ref), "bytes": ref.bytes, "sent": ref.sent}


def _age_s(ref: CheckpointRef) -> float | None:
    """Seconds since the commit, as far as this machine's clock and the node's agree."""
    try:
        moment = datetime.fromisoformat(ref.at or "")
    except ValueError:
        return None
    return max(round((datetime.now(UTC) - moment).total_seconds(), 1), 0.0)


def _cells(held: Held) -> tuple[str, ...]:
    record, progress = held.record, held.record.progress
    done = "" if progress.done is None else f"{progress.done}/{progress.total or '?'}"
    if progress.done is not None and progress.total:
        done += f" {progress.done / progress.total:.0%}"
    ref = record.checkpoint
    age = _age_s(ref) if ref else None
    return (
        record.job,
        f"{record.state} (stale)" if is_stale(held) else record.state.value,
        done,
        "" if progress.rate is None else f"{progress.rate:g}/s",
        str(record.epoch),
        record.owner or "",
        "" if ref is None else f"#{ref.seq}" if ref.step is None else f"step {ref.step}",
        "" if age is None else f"{age:.0f}s",
        str(record.failures or ""),
        (record.error or "").partition("\n")[0][:WIDEST_ERROR],
    )


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


def _watch(site: Site, jobs: Sequence[str]) -> int:
    from rich.live import Live
    from rich.table import Table

    with Live(auto_refresh=False) as live:
        while True:
            found = list(read_all(site, jobs))
            table = Table(*HEADS, caption=summary(found))
            for one in found:
                if one.held:
                    table.add_row(*_cells(one.held))
            live.update(table, refresh=True)
            time.sleep(WATCH_S)
