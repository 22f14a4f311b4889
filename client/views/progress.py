"""A progress bar for long work, shown only on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from client.views.output import is_quiet


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, and yield a thread-safe function that advances it by a number of steps.

    Args:
        title: Text beside the bar.
        total: All steps; None if unknown.
    """
    if not sys.stderr.isatty() or total == 0 or is_quiet():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps: progress.advance(task, steps)
