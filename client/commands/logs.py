"""`holdfast logs JOB`: print the events of each attempt, or the workload's output."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click
from attrs import define, field

from client import options
from client.config.environment import Environment
from client.records.attempt_logs import HEAD_FIELDS, LogObject, console_segments, event_logs
from client.records.reader import read_job
from client.views.output import plain_output, say
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.key_layout import is_job_id

FOLLOW_S: Final = 5.0
"""Seconds between two polls; workers upload new output every 20 s."""


def run(env: Environment, job: str, *, console: bool, epoch: int | None = None, follow: bool = False) -> int:
    """Print the log of every attempt, oldest first.

    Args:
        env: The environment of the job.
        job: The job's id.
        console: Print the workload's output instead of the attempts' events.
        epoch: Only this attempt.
        follow: Continue with new output until the job is over.

    Returns:
        0.

    Raises:
        PermanentError: The job does not exist, or has no log yet.
    """
    if not is_job_id(job):
        raise PermanentError(f"there is no job {job!r} under prefix {env.layout.prefix!r}")
    found = read_job(env, job)
    if found.stored is None:
        raise RetryableError(found.problem) if found.is_transient else PermanentError(found.problem)
    printer = LogPrinter(env, job, console=console, epoch=epoch)
    if not printer.print_new() and not follow:
        raise PermanentError(printer.reason_for_nothing())
    over = not follow or _is_over(env, job)
    while not over:  # polls once more after the job is over: the last output arrives after the final record
        over = _is_over(env, job)
        time.sleep(FOLLOW_S)
        printer.print_new()
    return 0


def _is_over(env: Environment, job: str) -> bool:
    stored = env.record_store.read(env.layout.job(job).record)
    return stored is None or stored.record.is_final


@define
class LogPrinter:
    """Prints a job's log as it grows.

    Attributes:
        env: The environment of the job.
        job: The job's id.
        console: Print the workload's output instead of the attempts' events.
        epoch: Only this attempt; None: all.
    """

    env: Environment
    job: str
    console: bool
    epoch: int | None
    _printed: dict[str, tuple[str, int]] = field(factory=dict, init=False)
    """Version and length of each object that was printed."""
    _attempt: int | None = field(default=None, init=False)
    _line_open: bool = field(default=False, init=False)

    def print_new(self) -> bool:
        """Print everything that is new; return True if anything has been printed so far."""
        for log in self._objects():
            if self.epoch not in {None, log.epoch}:
                continue
            version, length = self._printed.get(log.key, ("", 0))
            if version == log.version:
                continue
            stored = self.env.store.get(log.key)
            body = stored.body if stored else b""
            self._print(log.epoch, body[length:].decode(errors="replace"))
            self._printed[log.key] = log.version, len(body)
        sys.stdout.flush()
        return bool(self._printed)

    def reason_for_nothing(self) -> str:
        """Return the reason why nothing was printed."""
        if self.epoch is not None and (others := sorted({log.epoch for log in self._objects()})):
            return f"{self.job} has no log of attempt {self.epoch}, only of {', '.join(map(str, others))}"
        return f"{self.job} has no log yet: logs are uploaded every 20 s, and when an attempt ends"

    def _objects(self) -> Sequence[LogObject]:
        return console_segments(self.env, self.job) if self.console else event_logs(self.env, self.job)

    def _print(self, epoch: int, new: str) -> None:
        if not self.console:
            for line in new.splitlines():
                say(_format_event(line))
            return
        if epoch != self._attempt:
            if self._line_open:
                say()
            say(f"--- attempt {epoch} ---")
            self._attempt, self._line_open = epoch, False
        new = plain_output(new)
        sys.stdout.write(new)
        self._line_open = not new.endswith("\n") if new else self._line_open


def _format_event(line: str) -> str:
    """Return a line of an event log for people; unchanged if it is damaged."""
    try:
        entry: dict[str, Any] = json.loads(line)
        at, epoch, node, event = (entry[name] for name in HEAD_FIELDS)
    except (ValueError, KeyError, TypeError):
        return line
    facts = "  ".join(
        f"{name}={value}" for name, value in entry.items() if name not in HEAD_FIELDS and value is not None
    )
    return f"{at}  e{epoch}  {node}  {event}  {facts}".rstrip()


@options.command(
    "logs",
    ("holdfast logs md-1", "Print the events of each attempt."),
    ("holdfast logs md-1 --follow", "Print the program's output as it is written, wherever it runs."),
)
@options.job_argument
@click.option("--epoch", metavar="N", type=options.COUNT, help="Only attempt N.")
@click.option("--console", is_flag=True, help="Print the workload's output instead of events.")
@click.option("--follow", is_flag=True, help="Print the workload's output as it is written.")
def command(*, job: str, epoch: int | None, console: bool, follow: bool) -> int:
    """Print the events of a job's attempts, or its output."""
    return run(options.environment(), job, console=console or follow, epoch=epoch, follow=follow)
