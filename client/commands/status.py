"""`holdfast status`: list jobs, a few by their records, or many from the local record index."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, evolve

from client.commands.storage import human
from client.commands.submit import label
from client.config.composition import Environment
from client.records.archive_index import ArchiveIndex
from client.records.database import cache_path
from client.records.record_index import ORDERS, Query, RecordIndex, eta_s
from client.views.progress import bar
from lifecycle.durations import parse
from lifecycle.errors import ConfigError, RetryableError
from lifecycle.job_record import Backlog, CheckpointRef
from lifecycle.record.record_store import StoredRecord
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
    "eta",
    "checkpoint",
    "age",
    "backlog",
    "failures",
    "error",
)
STYLES: Final = {"completed": "green", "failed": "red", "running (stale)": "red", "running": "cyan"}
SHRINKING: Final = ("job", "owner", "error")  # columns that give way where a terminal is narrow
WIDEST_ERROR: Final = 60
MEASURED: Final = 1000  # jobs that the columns' widths are taken from
Jobs = RecordIndex | ArchiveIndex
SHOWN: Final = tuple(state.value for state in State if state is not State.SUPERSEDED)


def query(
    *,
    states: Sequence[str] = (),
    stale: bool = False,
    labels: Sequence[str] = (),
    since: str | None = None,
    sort: str = "job",
    backwards: bool = False,
    limit: int | None = None,
) -> Query:
    """What a command line asks for.

    Raises:
        ConfigError: A state, a label, a time or an order that is none.
    """
    named = [name for text in states for name in text.split(",")]
    for name in named:
        if name not in SHOWN:
            raise ConfigError(f"--state {name}: there is no such state; there are {', '.join(SHOWN)}")
    if sort not in ORDERS:
        raise ConfigError(f"--sort {sort}: is none of {', '.join(ORDERS)}")
    try:
        since_s = parse(since).total_seconds() if since else None
    except ValueError as error:
        raise ConfigError(f"--since {error}") from error
    return Query(
        states=[State(name) for name in named],
        stale=stale,
        labels=dict(label(text) for text in labels),
        since_s=since_s,
        sort=sort,
        backwards=backwards,
        limit=limit,
    )


def run(
    env: Environment, jobs: Sequence[str], wanted: Query, *, as_json: bool, watch: bool, archived: bool = False
) -> int:
    """Print the jobs of *wanted*, or among those that are named the ones of it; once, or, watching, until interrupted.

    With *archived* those in the archive, instead of the live ones.

    Returns:
        0; 1 if a record could not be read, which stderr names.
    """
    path = None if jobs and not archived else cache_path(env)
    with RecordIndex(env, path, jobs) as live:
        index = ArchiveIndex(env, live.db, jobs) if archived else live
        if watch and sys.stdout.isatty() and not as_json:
            return _watch(index, wanted)
        problems: list[str] = []
        with bar("reading records", None) as advance:
            index.refresh(advance)
        if as_json:
            for one in _told(index, wanted, problems):
                print(json.dumps(as_object(one)))
        else:
            _print_table(index, wanted, problems)
        return _problems([*problems, *index.problems()])


def as_object(stored: StoredRecord) -> dict[str, Any]:
    """A record as `--json` gives it; fields are only ever added to it."""
    record = stored.record
    return {
        "job": record.job,
        "state": record.state,
        "epoch": record.epoch,
        "owner": record.owner,
        "progress": asdict(record.progress),
        "eta_s": eta_s(record),
        "labels": dict(record.labels),
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
        "stale": is_stale(stored),
        "cancel_asked": record.control.cancel,
        "attempts": [asdict(attempt) for attempt in record.attempts],
        "timestamps": asdict(record.timestamps),
        "archived": record.archived,
    }


def is_stale(stored: StoredRecord) -> bool:
    """Whether the job has an owner whose lease ran out."""
    return stored.record.owner is not None and not stored.record.is_owned(stored.age_s)


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


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units, like `3h 20m`; nothing for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // below}{smaller}"
    return f"{whole}s"


def _cells(stored: StoredRecord) -> tuple[str, ...]:
    record, progress = stored.record, stored.record.progress
    done = "" if progress.done is None else f"{progress.done}/{progress.total or '?'}"
    if progress.done is not None and progress.total:
        done += f" {progress.done / progress.total:.0%}"
    ref = record.checkpoint
    age = _since_s(ref.at) if ref else None
    cells = (
        record.job,
        f"{record.state} (stale)" if is_stale(stored) else record.state.value,
        done,
        "" if progress.rate is None else f"{progress.rate:g}/s",
        str(record.epoch),
        record.owner or "",
        duration(eta_s(record)),
        "" if ref is None else f"#{ref.seq}" if ref.step is None else f"step {ref.step}",
        "" if age is None else f"{age:.0f}s",
        f"{human(record.backlog.bytes)}, {_since_s(record.backlog.since) or 0:.0f}s" if record.backlog else "",
        str(record.failures or ""),
        (record.error or "").partition("\n")[0][:WIDEST_ERROR],
    )
    return tuple(printable(cell) for cell in cells)


def printable(text: str) -> str:
    """*text* without what would steer the operator's terminal: a workload may have written it."""
    return "".join(char if char.isprintable() else " " for char in text)


def _told(index: Jobs, wanted: Query, problems: list[str]) -> Iterator[StoredRecord]:
    """The records of *wanted*; of an archive, *problems* get why one cannot be shown, which is found out only now."""
    for one in index.jobs(wanted):
        if one.stored:
            yield one.stored
        elif isinstance(index, ArchiveIndex):
            problems.append(one.problem or one.job)


def _print_table(index: Jobs, wanted: Query, problems: list[str]) -> None:
    """A table whose columns are as wide as those of its first jobs need: all of them need not be in memory."""
    found = (_cells(stored) for stored in _told(index, wanted, problems))
    first = [HEADS, *islice(found, MEASURED)]
    if len(first) > 1:
        widths = [max(map(len, column)) for column in zip(*first, strict=True)]
        shown = [number for number, _ in enumerate(HEADS) if any(row[number] for row in first[1:])]
        for row in chain(first, found):
            print("  ".join(row[number].ljust(widths[number]) for number in shown).rstrip())
    print(summary(index, wanted))


def summary(index: Jobs, wanted: Query) -> str:
    """How many jobs there are in each state, in a line; and how many of them have lost their owner."""
    counts, stale = index.count(wanted), sum(index.count(evolve(wanted, stale=True)).values())
    text = f"{sum(counts.values())} jobs" + "".join(f", {count} {state}" for state, count in counts.items())
    return text + (f"; {stale} of them stale" if stale else "")


def _problems(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"holdfast: {problem}", file=sys.stderr)
    return int(bool(problems))


def _watch(index: Jobs, wanted: Query) -> int:
    from rich.live import Live

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            trouble = _refreshed(index)
            fitting = max(live.console.size.height - 6, 1)
            shown = evolve(wanted, limit=min(wanted.limit or fitting, fitting))
            live.update(rich_table(index, shown, trouble), refresh=True)
            time.sleep(WATCH_S)


def _refreshed(index: Jobs) -> str:
    """Refresh; what was read before is still worth looking at if that fails, which is said."""
    try:
        index.refresh()
    except RetryableError as error:
        return f"; not refreshed: {error}"
    return ""


def rich_table(index: Jobs, wanted: Query, trouble: str = "") -> "Table":
    """The table for a terminal, a line for each job; every text stands there as it is, brackets included."""
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(one.stored) for one in index.jobs(wanted) if one.stored]
    table = Table(box=None, caption=Text(summary(index, evolve(wanted, limit=None)) + trouble), caption_justify="left")
    shown = [number for number, _ in enumerate(HEADS) if any(row[number] for row in rows)]
    for number in shown:
        table.add_column(HEADS[number], no_wrap=HEADS[number] not in SHRINKING)  # those that may wrap give way first
    for row in rows:
        cells = (Text(row[number], STYLES.get(row[number], ""), no_wrap=True, overflow="ellipsis") for number in shown)
        table.add_row(*cells)
    return table
