"""`holdfast logs JOB`: what the job's attempts did, one line for each thing; or what the workload wrote."""

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import define, field

from client.config.composition import Environment
from client.records.reader import read_one
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.key_layout import is_job_id

FIXED: Final = ("at", "epoch", "node", "event")
EVENTS: Final = re.compile(r"/e(\d+)\.jsonl$")
CONSOLE: Final = re.compile(r"/e(\d+)/(\d+)\.txt$")
FOLLOW_S: Final = 5.0
"""Between two looks; workers bring what is new every 20 s."""


def run(env: Environment, job: str, *, console: bool, epoch: int | None = None, follow: bool = False) -> int:
    """Print the log of every attempt, oldest first, or only of attempt *epoch*.

    Args:
        env: Where.
        job: Whose.
        console: What the workload wrote to stdout and stderr, instead of what the attempts did.
        epoch: Only this attempt.
        follow: Go on with what is new, until the job is over.

    Returns:
        0.

    Raises:
        PermanentError: There is no such job, or it has no log yet.
    """
    if not is_job_id(job):
        raise PermanentError(f"there is no job {job!r} under prefix {env.layout.prefix!r}")
    found = read_one(env, job)
    if found.stored is None:
        raise RetryableError(found.problem) if found.is_passing else PermanentError(found.problem)
    printed = Printed(env, job, console=console, epoch=epoch)
    if not printed.go_on() and not follow:
        raise PermanentError(printed.nothing())
    over = not follow or _is_over(env, job)
    while not over:  # looked at once more afterwards: the last bit comes after the record has said that it is over
        over = _is_over(env, job)
        time.sleep(FOLLOW_S)
        printed.go_on()
    return 0


def _is_over(env: Environment, job: str) -> bool:
    stored = env.record_store.read(env.layout.job(job).record)
    return stored is None or stored.record.is_final


@define
class Printed:
    """What has been printed of a job's log.

    Attributes:
        env: Where it is.
        job: Whose.
        console: What the workload wrote, rather than what the attempts did.
        epoch: The one attempt that is wanted; None: all.
    """

    env: Environment
    job: str
    console: bool
    epoch: int | None
    _seen: dict[str, tuple[str, int]] = field(factory=dict, init=False)
    _attempt: int | None = field(default=None, init=False)
    _line_open: bool = field(default=False, init=False)

    def go_on(self) -> bool:
        """Print what is new; whether anything has been printed by now."""
        for key, version, number in self.found():
            before, length = self._seen.get(key, ("", 0))
            if before == version:
                continue
            stored = self.env.store.get(key)
            body = stored.body if stored else b""
            self._print(number, body[length:].decode(errors="replace"))
            self._seen[key] = version, len(body)
        sys.stdout.flush()
        return bool(self._seen)

    def nothing(self) -> str:
        """Why nothing was printed."""
        if self.epoch is not None and (others := sorted({number for _, _, number in self._all()})):
            return f"{self.job} has no log of attempt {self.epoch}, only of {', '.join(map(str, others))}"
        return f"{self.job} has no log yet: one is stored every 20 s, and at an attempt's end"

    def found(self) -> Sequence[tuple[str, str, int]]:
        """Keys, versions and attempts of what is wanted, oldest first."""
        return [found for found in self._all() if self.epoch in {None, found[2]}]

    def _all(self) -> Sequence[tuple[str, str, int]]:
        """Keys, versions and attempts of what there is, oldest first."""
        pattern = CONSOLE if self.console else EVENTS
        found = [
            (tuple(map(int, match.groups())), listed.key, listed.version)
            for listed in self.env.store.list(self.env.layout.job(self.job).logs)
            if (match := pattern.search(listed.key))
        ]
        return [(key, version, numbers[0]) for numbers, key, version in sorted(found)]

    def _print(self, number: int, new: str) -> None:
        if not self.console:
            for line in new.splitlines():
                print(_readable(line))
            return
        if number != self._attempt:
            if self._line_open:
                print()
            print(f"--- attempt {number} ---")
            self._attempt, self._line_open = number, False
        sys.stdout.write(new)
        self._line_open = not new.endswith("\n") if new else self._line_open


def events(env: Environment, job: str) -> Iterator[dict[str, Any]]:
    """What the job's attempts did, oldest first, as far as it has been brought to the bucket.

    Raises:
        RetryableError: It cannot be read.
    """
    log = Printed(env, job, console=False, epoch=None)
    for key, _, _ in log.found():
        stored = env.store.get(key)
        for line in stored.body.decode(errors="replace").splitlines() if stored else ():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def _readable(line: str) -> str:
    try:
        entry: dict[str, Any] = json.loads(line)
        at, epoch, node, event = (entry[name] for name in FIXED)
    except (ValueError, KeyError, TypeError):
        return line
    facts = "  ".join(f"{name}={value}" for name, value in entry.items() if name not in FIXED and value is not None)
    return f"{at}  e{epoch}  {node}  {event}  {facts}".rstrip()
