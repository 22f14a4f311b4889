"""`holdfast status`: list jobs; a few by their records, or many from the record index."""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from attrs import evolve

from client.config.environment import Environment
from client.records.archive_index import ArchiveIndex
from client.records.database import cache_path
from client.records.elsewhere import jobs_elsewhere
from client.records.estimates import eta_s, is_stale
from client.records.query import EVERYTHING, Query
from client.records.record_index import RecordIndex
from client.views.job_json import job_object, saving_text, seconds_since
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.progress import progress_bar
from client.views.text import format_duration, format_size, printable
from lifecycle.errors import RetryableError
from lifecycle.record.record_store import StoredRecord

if TYPE_CHECKING:
    from rich.table import Table

WATCH_S: Final = 2.0
COLUMNS: Final = (
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
    "saving",
    "failures",
    "error",
)
STYLES: Final = {"completed": "green", "failed": "red", "running (stale)": "red", "running": "cyan"}
SHRINKING: Final = frozenset({"job", "owner", "saving", "error"})  # columns that shrink first on a narrow terminal
WIDEST_ERROR: Final = 60
MEASURED: Final = 1000  # jobs from which the width of each column is taken
Jobs = RecordIndex | ArchiveIndex


def run(
    env: Environment, jobs: Sequence[str], wanted: Query, *, as_json: bool, watch: bool, archived: bool = False
) -> int:
    """Print the jobs of a query.

    Args:
        env: The environment of the jobs.
        jobs: Only these jobs; empty: all.
        wanted: The query.
        as_json: Print JSON, one object per line.
        watch: On a terminal, print them again and again until interrupted.
        archived: Print archived jobs instead of live ones.

    Returns:
        0; 1 if a record could not be read, which stderr names. If there are no jobs, stderr says where others are.
    """
    path = None if jobs and not archived else cache_path(env)
    with RecordIndex(env, path, jobs) as live:
        index = ArchiveIndex(env, live.db, jobs) if archived else live
        if watch and sys.stdout.isatty() and not as_json:
            return _watch(index, wanted)
        problems: list[str] = []
        with progress_bar("reading records", None) as advance:
            index.refresh(advance)
        if as_json:
            for one in _records(index, wanted, problems):
                say(to_json(job_object(one)))
        else:
            _print_table(index, wanted, problems)
        problems += index.problems()
        elsewhere = None if jobs or archived or live.count(EVERYTHING) else jobs_elsewhere(env)
    if elsewhere:
        complain(elsewhere)
    for problem in problems:
        complain(problem)
    return int(bool(problems))


def _cells(stored: StoredRecord) -> tuple[str, ...]:
    record, progress = stored.record, stored.record.progress
    done = "" if progress.done is None else f"{progress.done}/{progress.total or '?'}"
    if progress.done is not None and progress.total:
        done += f" {progress.done / progress.total:.0%}"
    ref = record.checkpoint
    age = seconds_since(ref.at) if ref else None
    backlog = record.backlog
    cells = (
        record.job,
        f"{record.state} (stale)" if is_stale(stored) else record.state.value,
        done,
        "" if progress.rate is None else f"{progress.rate:g}/s",
        str(record.epoch),
        record.owner or "",
        format_duration(eta_s(record)),
        "" if ref is None else f"#{ref.seq}" if ref.step is None else f"step {ref.step}",
        "" if age is None else f"{age:.0f}s",
        f"{format_size(backlog.bytes)}, {seconds_since(backlog.since) or 0:.0f}s" if backlog else "",
        (saving_text(record) or "")[:WIDEST_ERROR],
        str(record.failures or ""),
        (record.error or "").partition("\n")[0][:WIDEST_ERROR],
    )
    return tuple(printable(cell) for cell in cells)


def _records(index: Jobs, wanted: Query, problems: list[str]) -> Iterator[StoredRecord]:
    """Yield the records of *wanted*. Adds to *problems* the archived records that cannot be read."""
    for one in index.jobs(wanted):
        if one.stored:
            yield one.stored
        elif isinstance(index, ArchiveIndex):
            problems.append(one.problem or one.job)


def _print_table(index: Jobs, wanted: Query, problems: list[str]) -> None:
    """Print a table; its widths are those of the first jobs, so not all jobs need to be in memory."""
    found = (_cells(stored) for stored in _records(index, wanted, problems))
    first = [COLUMNS, *islice(found, MEASURED)]
    if len(first) > 1:
        widths = [max(map(len, column)) for column in zip(*first, strict=True)]
        shown = [number for number, _ in enumerate(COLUMNS) if any(row[number] for row in first[1:])]
        for row in chain(first, found):
            say("  ".join(row[number].ljust(widths[number]) for number in shown).rstrip())
    say(summary(index, wanted))


def summary(index: Jobs, wanted: Query) -> str:
    """Return a line with the number of jobs in each state, and of stale ones."""
    counts, stale = index.count(wanted), sum(index.count(evolve(wanted, stale=True)).values())
    text = f"{sum(counts.values())} jobs" + "".join(f", {count} {state}" for state, count in counts.items())
    return text + (f"; {stale} of them stale" if stale else "")


def _watch(index: Jobs, wanted: Query) -> int:
    from rich.live import Live

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            note = _refresh(index)
            fitting = max(live.console.size.height - 6, 1)
            shown = evolve(wanted, limit=min(wanted.limit or fitting, fitting))
            live.update(rich_table(index, shown, note), refresh=True)
            time.sleep(WATCH_S)


def _refresh(index: Jobs) -> str:
    """Refresh; if that fails, return a note for the table, which then shows the records read before."""
    try:
        index.refresh()
    except RetryableError as error:
        return f"; not refreshed: {error}"
    return ""


def rich_table(index: Jobs, wanted: Query, note: str = "") -> "Table":
    """Return the table for a terminal, a row per job; all texts are shown literally, brackets included."""
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(one.stored) for one in index.jobs(wanted) if one.stored]
    table = Table(box=None, caption=Text(summary(index, evolve(wanted, limit=None)) + note), caption_justify="left")
    shown = [number for number, _ in enumerate(COLUMNS) if any(row[number] for row in rows)]
    for number in shown:
        table.add_column(COLUMNS[number], no_wrap=COLUMNS[number] not in SHRINKING)
    for row in rows:
        cells = (Text(row[number], STYLES.get(row[number], ""), no_wrap=True, overflow="ellipsis") for number in shown)
        table.add_row(*cells)
    return table
