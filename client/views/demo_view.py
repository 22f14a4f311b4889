"""What `holdfast demo` shows: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from attrs import define, field

from lifecycle.record.record_store import StoredRecord

if TYPE_CHECKING:
    from rich.live import Live


class View(Protocol):
    """Shows what goes on."""

    def say(self, line: str) -> None:
        """Say something that happens once."""

    def show(self, stored: Sequence[StoredRecord]) -> None:
        """Show where the jobs stand."""


@contextmanager
def view_on(out: TextIO, jobs: Sequence[str]) -> Iterator[View]:
    """A view on *out*: live if that is a terminal."""
    if not out.isatty():
        yield PlainView(out)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=out), refresh_per_second=8) as live:
        yield LiveView(live, jobs)


@define
class PlainView:
    """A line for every change of a job's state, attempt or checkpoint."""

    out: TextIO
    seen: dict[str, str] = field(factory=dict)

    def say(self, line: str) -> None:
        """Print it."""
        print(line, file=self.out, flush=True)

    def show(self, stored: Sequence[StoredRecord]) -> None:
        """Print the jobs that have changed."""
        for one in stored:
            job, *cells = row(one)
            line = "  ".join(cell for cell in cells if cell)
            if self.seen.get(job) != line:
                self.seen[job] = line
                self.say(f"{job}: {line}")


@define
class LiveView:
    """A table that follows the jobs."""

    live: "Live"
    jobs: Sequence[str]

    def say(self, line: str) -> None:
        """Print it above the table."""
        self.live.console.print(line, highlight=False, markup=False)

    def show(self, stored: Sequence[StoredRecord]) -> None:
        """Draw the table anew."""
        from rich.table import Table

        table = Table("job", "state", "done", "of", "epoch", "owner", "checkpoint", "resumed at")
        for one in stored:
            table.add_row(*row(one))
        self.live.update(table)


def row(stored: StoredRecord) -> tuple[str, ...]:
    """One job's cells: job, state, steps done, steps in all, epoch, owner, checkpointed step, where it resumed."""
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
