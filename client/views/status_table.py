"""The table of `status`: a line per job, fitted to a width; the id is never cut, and the least useful columns go first.

A column is shown if one of its cells is not empty and the columns that matter more leave room for it.
"""

from collections.abc import Callable, Sequence
from typing import Final

from attrs import field, frozen

from client.records.estimates import eta_s, is_stale, share_done
from client.views.job_json import saving_text, seconds_since
from client.views.terminal import BOLD, CYAN, DIM, GREEN, PLAIN, RED, YELLOW, Span
from client.views.text import cut, display_width, format_duration, format_size, pad, printable
from lifecycle.job_record import JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State

GAP: Final = 2
OK: Final = "ok"
ALWAYS: Final = 1  # the highest rank of the columns that are shown on any terminal, however narrow
STATE_STYLES: Final = {
    State.COMPLETED: GREEN,
    State.FAILED: RED,
    State.CANCELLED: DIM,
    State.QUEUED: DIM,
    State.RELEASED: YELLOW,
    State.PAUSED_FOR_TIMEOUT: YELLOW,
}


@frozen
class Column:
    """A column of the table.

    Attributes:
        name: Its heading.
        text: Returns the text of a job's cell.
        rank: Its importance: on a narrow terminal, the columns with the highest rank go first.
        narrowest: The width down to which its texts may be cut; None: never cut.
        short: The column to use where there is no room for this one.
        style: Returns the style of a job's cell.
    """

    name: str
    text: Callable[[StoredRecord], str]
    rank: int
    narrowest: int | None = None
    short: "Column | None" = None
    style: Callable[[StoredRecord], str] = lambda _: PLAIN


def silent_s(stored: StoredRecord) -> float | None:
    """Return for how many seconds the lease of a job's owner has been expired; None if it has not."""
    if stored.age_s is None or not is_stale(stored):
        return None
    return max(stored.age_s - stored.record.lease_s, 0.0)


def _state_style(stored: StoredRecord) -> str:
    if is_stale(stored):
        return RED
    return STATE_STYLES.get(stored.record.state, CYAN if stored.record.state in OWNED else PLAIN)


def _progress(stored: StoredRecord) -> str:
    progress = stored.record.progress
    if progress.done is None:
        return ""
    share = share_done(progress)
    return f"{progress.done}/{progress.total or '?'}" + ("" if share is None else f" {share:.0%}")


def _share(stored: StoredRecord) -> str:
    share = share_done(stored.record.progress)
    return "" if share is None else f"{share:.0%}"


def _rate(stored: StoredRecord) -> str:
    silent, record = silent_s(stored), stored.record
    if silent is not None:
        return f"stale {format_duration(silent)}"
    return "" if record.state not in OWNED or record.progress.rate is None else f"{record.progress.rate:g}/s"


def _eta(stored: StoredRecord) -> str:
    return "" if is_stale(stored) else format_duration(eta_s(stored.record))


def _saving(stored: StoredRecord) -> str:
    return "" if is_stale(stored) else saving_text(stored.record) or ""


def _saved(stored: StoredRecord) -> str:
    """Return the last checkpoint, and how long ago it was committed while the job is not over."""
    record = stored.record
    ref = record.checkpoint
    if ref is None:
        return ""
    age = None if record.is_final else seconds_since(ref.at)
    name = f"#{ref.seq}" if ref.step is None else f"step {ref.step}"
    return name if age is None else f"{name}, {format_duration(age)} ago"


def _backlog(record: JobRecord) -> str:
    backlog = record.backlog
    return f"{format_size(backlog.bytes)}, {format_duration(seconds_since(backlog.since) or 0)}" if backlog else ""


def _error(record: JobRecord) -> str:
    return (record.error or "").partition("\n")[0]


COLUMNS: Final = (
    Column("job", lambda stored: stored.record.job, rank=0, style=lambda _: BOLD),
    Column("state", lambda stored: stored.record.state.value, rank=1, style=_state_style),
    Column("progress", _progress, rank=3, short=Column("done", _share, rank=3)),
    Column("rate", _rate, rank=2, style=lambda stored: RED if is_stale(stored) else PLAIN),
    Column("eta", _eta, rank=5),
    Column("saving", _saving, rank=4, narrowest=12, style=lambda stored: DIM if _saving(stored) == OK else YELLOW),
    Column("checkpoint", _saved, rank=7),
    Column("owner", lambda stored: stored.record.owner or "", rank=9, narrowest=10),
    Column("epoch", lambda stored: str(stored.record.epoch or ""), rank=11, style=lambda _: DIM),
    Column("backlog", lambda stored: _backlog(stored.record), rank=10, style=lambda _: YELLOW),
    Column("failures", lambda stored: str(stored.record.failures or ""), rank=8, style=lambda _: RED),
    Column("error", lambda stored: _error(stored.record), rank=6, narrowest=20, style=lambda _: RED),
)


@frozen
class StatusTable:
    """The columns that are shown, and their widths.

    Attributes:
        columns: Each column with its width.
    """

    columns: Sequence[tuple[Column, int]] = field(factory=tuple)

    @classmethod
    def for_jobs(cls, jobs: Sequence[StoredRecord], width: int | None) -> "StatusTable":
        """Choose columns for *jobs* that fit into *width*; None: all that are not empty, at full width."""
        filled = [(column, wide) for column in COLUMNS if (wide := _needed(column, jobs))]
        return cls(filled if width is None else _fitted(filled, jobs, width))

    def header(self) -> list[Span]:
        """Return the line of headings."""
        return self._line([(column.name, DIM) for column, _ in self.columns])

    def row(self, stored: StoredRecord) -> list[Span]:
        """Return the line of a job."""
        return self._line([(_cell(column, stored), column.style(stored)) for column, _ in self.columns])

    def _line(self, cells: Sequence[tuple[str, str]]) -> list[Span]:
        spans = []
        for number, ((text, style), (column, width)) in enumerate(zip(cells, self.columns, strict=True), 1):
            shown = text if column.narrowest is None else cut(text, width)
            spans.append((shown, style))
            if number < len(self.columns):
                spans.append((pad(shown, width)[len(shown) :] + " " * GAP, PLAIN))
        return spans


def _cell(column: Column, stored: StoredRecord) -> str:
    return printable(column.text(stored))


def _needed(column: Column, jobs: Sequence[StoredRecord]) -> int:
    """Return the width that a column needs to show everything; 0 if it is empty."""
    widest = max((display_width(_cell(column, one)) for one in jobs), default=0)
    return max(widest, len(column.name)) if widest else 0


def _fitted(filled: Sequence[tuple[Column, int]], jobs: Sequence[StoredRecord], width: int) -> list[tuple[Column, int]]:
    """Return the columns that fit into *width*, by rank; what is left over goes to those that were cut."""
    kept: dict[int, tuple[Column, int, int]] = {}  # by rank: the column, its width, and the width that it needs
    left = width + GAP
    for column, needed in sorted(filled, key=lambda one: one[0].rank):
        choices = [(column, needed), *([(column.short, _needed(column.short, jobs))] if column.short else [])]
        for choice, wide in choices:
            least = wide if choice.narrowest is None else min(wide, max(choice.narrowest, len(choice.name)))
            if column.rank <= ALWAYS or 0 < least + GAP <= left:
                kept[column.rank] = choice, least, wide
                left -= least + GAP
                break
        else:
            break
    for rank, (column, least, wide) in sorted(kept.items()):
        more = min(wide - least, max(left, 0))
        kept[rank] = column, least + more, wide
        left -= more
    return [kept[column.rank][:2] for column, _ in filled if column.rank in kept]
