"""The display of `holdfast demo`: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from attrs import define, field

from lifecycle.record.record_store import StoredRecord

if TYPE_CHECKING:
    from rich.live import Live


class DemoView(Protocol):
    """A display of the demo's jobs."""

    def print(self, line: str) -> None:
        """Show a line of text."""

    def show(self, stored: Sequence[StoredRecord]) -> None:
        """Show the current state of the jobs."""


@contextmanager
def open_view(out: TextIO) -> Iterator[DemoView]:
    """Open a display on *out*: live if that is a terminal."""
    if not out.isatty():
        yield PlainView(out)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=out), refresh_per_second=8) as live:
        yield LiveView(live)


@define
class PlainView:
    """A line for each change of a job's state, attempt or checkpoint."""

    out: TextIO
    shown: dict[str, str] = field(factory=dict)

    def print(self, line: str) -> None:
        """Print a line of text."""
        print(line, file=self.out, flush=True)

    def show(self, stored: Sequence[StoredRecord]) -> None:
        """Print the jobs that have changed."""
        for one in stored:
            job, *cells = row(one)
            line = "  ".join(cell for cell in cells if cell)
            if self.shown.get(job) != line:
                self.shown[job] = line
                self.print(f"{job}: {line}")


@define
class LiveView:
    """A table that follows the jobs."""

    live: "Live"

    def print(self, line: str) -> None:
        """Print a line of text above the table."""
        self.live.console.print(line, highlight=False, markup=False)

    def show(self, stored: Sequence[StoredRecord]) -> None:
        """Draw the table again."""
        from rich.table import Table

        table = Table("job", "state", "done", "of", "epoch", "owner", "checkpoint", "resumed at")
        for one in stored:
            table.add_row(*row(one))
        self.live.update(table)


def row(stored: StoredRecord) -> tuple[str, ...]:
    """Return a job's cells: job, state, steps done, steps in all, epoch, owner, checkpointed step, resumed steps."""
    record = stored.record
    resumed = [str(attempt.resumed_step) for attempt in record.attempts if attempt.resumed_step]
    return (
        record.job,
        record.state.value,
        str(record.progress.done or ""),
        str(record.progress.total or ""),
        str(record.epoch),
        record.owner or "",
        str(record.checkpoint.step) if record.checkpoint else "",
        ", ".join(resumed),
    )
