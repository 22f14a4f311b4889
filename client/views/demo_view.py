"""The display of `holdfast demo`: a live table on a terminal, labelled lines elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from attrs import define, field, frozen

from client.views.output import say
from lifecycle.states import FINAL, State

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

BAR_WIDTH: Final = 20
STYLES: Final = {
    State.RUNNING: "green",
    State.CHECKPOINTING: "cyan",
    State.COMPLETED: "bold green",
    State.FAILED: "bold red",
    State.CANCELLED: "red",
}


@frozen
class DemoRow:
    """A job as the demo shows it.

    Attributes:
        job: Its id.
        state: Its state.
        done: Steps done.
        total: Steps in all.
        saved: Step of its last checkpoint; 0 if it has none.
        worker: Name of its owner; empty if it has none.
        lease_left_s: Seconds until another worker may take it, if its owner is dead; None if its owner lives.
    """

    job: str
    state: State
    done: int
    total: int
    saved: int
    worker: str
    lease_left_s: float | None

    @property
    def owner(self) -> str:
        """The owner, and for a dead one how long its lease still lasts."""
        if self.lease_left_s is None:
            return self.worker
        return f"{self.worker} is dead: " + (f"lease {self.lease_left_s:.0f} s" if self.lease_left_s else "lease over")


class DemoView(Protocol):
    """A display of the demo's jobs."""

    def say(self, line: str, *, style: str = "") -> None:
        """Show a line of text, in a style of rich's where there is colour."""

    def show(self, rows: Sequence[DemoRow]) -> None:
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
    """A line for each change of a job's state, owner or checkpoint."""

    out: TextIO
    shown: dict[str, DemoRow] = field(factory=dict)

    def say(self, line: str, *, style: str = "") -> None:  # noqa: ARG002 - plain text has no style
        """Print a line of text."""
        say(line, file=self.out, flush=True)

    def show(self, rows: Sequence[DemoRow]) -> None:
        """Print the jobs that have changed."""
        for row in rows:
            before = self.shown.get(row.job)
            if before is None or (row.state, row.worker, row.saved) != (before.state, before.worker, before.saved):
                self.shown[row.job] = row
                self.say(self._line(row))

    @staticmethod
    def _line(row: DemoRow) -> str:
        parts = [row.state.value, f"step {row.done:,} of {row.total:,}" if row.total else ""]
        parts += [f"checkpoint at {row.saved:,}" if row.saved else "", "" if row.state in FINAL else row.owner]
        return f"{row.job}: {', '.join(filter(None, parts))}"


@define
class LiveView:
    """A table that follows the jobs."""

    live: "Live"

    def say(self, line: str, *, style: str = "") -> None:
        """Print a line of text above the table."""
        self.live.console.print(line, highlight=False, markup=False, style=style)

    def show(self, rows: Sequence[DemoRow]) -> None:
        """Draw the table again."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table("job", "state", "progress", "step", "worker", box=box.SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            owner = Text("" if row.state in FINAL else row.owner, style="" if row.lease_left_s is None else "bold red")
            state = Text(row.state.value, style=STYLES.get(row.state, ""))
            table.add_row(row.job, state, _bar(row), f"{row.done:,}" if row.total else "", owner)
        table.caption = "[green]█[/] saved   [yellow]█[/] done, not saved yet"
        table.caption_justify = "left"
        self.live.update(table)


def _bar(row: DemoRow) -> "Text":
    """Return a bar that tells the steps that are safe in the bucket from those that would be lost."""
    from rich.text import Text

    if not row.total:
        return Text()
    done = BAR_WIDTH * row.done // row.total
    saved = done if row.state is State.COMPLETED else min(BAR_WIDTH * row.saved // row.total, done)
    return Text.assemble(
        ("█" * saved, "green"), ("█" * (done - saved), "yellow"), ("░" * (BAR_WIDTH - done), "bright_black")
    )
