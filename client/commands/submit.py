"""`holdfast submit`: a record for each job, then a message for each record. Never the other way round.

The record is put under the condition that there is none, so a job submitted twice is submitted once. Records go out in
parallel, and a batch of messages as soon as its records are in.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from attrs import define, evolve, field, frozen

from client.commands.upload import job_folders
from client.config.composition import Environment
from client.views.progress import bar
from lifecycle.errors import ConfigError, HoldfastError, PermanentError
from lifecycle.job_record import JobRecord, Timestamps, iso
from lifecycle.key_layout import is_job_id
from lifecycle.limits import saving_interval
from lifecycle.ports.queue import Message
from lifecycle.ports.store import ABSENT
from lifecycle.record.archive_format import is_archived
from lifecycle.record.codec import expect_room
from lifecycle.record.message import announce
from lifecycle.record.record_store import WriteConflict

WRITERS: Final = 64  # a round trip takes far longer than our part of it
SENDERS: Final = 8
BATCH: Final = 10
FIRST_DISPATCH: Final = 1
ANY: Final = timedelta(0)  # where only what a job says itself is to be looked at

SUBMITTED, ALREADY, FAILED, NOT_ANNOUNCED = OUTCOMES = ("submitted", "already submitted", "failed", "not announced")
ARCHIVED: Final = "it is archived (`holdfast show` has it): submit its work under another id to do it again"
MEND: Final = "submit the failed ones again; then `holdfast reconcile --older 0` sends the messages that are missing"


@frozen
class Order:
    """A job to submit."""

    job: str
    workload: str
    params: dict[str, Any]
    labels: dict[str, str] = field(factory=dict)


@frozen
class SubmitResult:
    """What became of an order: submitted, already there, or failed with a reason."""

    job: str
    outcome: str
    reason: str | None = None


def read_orders(
    names: Sequence[str], *, file: Path | None, workload: str, params: Sequence[str], labels: Sequence[str] = ()
) -> list[Order]:
    """The jobs that a command line asks for, each once.

    Raises:
        ConfigError: A name, a parameter or a line of the file is wrong; nothing has been submitted.
    """
    template = Order("", workload, dict(_param(text) for text in params), dict(label(text) for text in labels))
    try:
        saving_interval(template.params, ANY)
    except PermanentError as error:
        raise ConfigError(f"{error}; nothing was submitted") from error
    orders = [evolve(template, job=job) for name in names for job in _jobs_of(name)]
    if file is not None:
        orders += _lines(file, template)
    if not orders:
        raise ConfigError("nothing to submit: name a folder, job ids, or a file with --from")
    unique: dict[str, Order] = {}
    for order in orders:
        kept = unique.setdefault(order.job, order)
        if kept != order:
            raise ConfigError(f"{order.job} is asked for twice, with different work: nothing was submitted")
    for job, times in Counter(order.job for order in orders).items():
        if times > 1:
            print(f"{job}: asked for {times} times, submitted once", file=sys.stderr)
    return list(unique.values())


def run(env: Environment, orders: Sequence[Order], *, as_json: bool) -> int:
    """Submit all *orders*.

    Returns:
        0; or 1 if one was not submitted, unless it was already.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong; what was submitted before that was seen is.
    """
    counts = Counter[str]()
    try:
        with bar("submitting", len(orders)) as advance:
            for outcome in submit(env, orders):
                counts[outcome.outcome] += 1
                advance(1)
                _tell(outcome, as_json=as_json)
    finally:
        if not as_json and counts:
            print(", ".join(f"{counts[what]} {what}" for what in OUTCOMES if counts[what]))
        if counts[FAILED] or counts[NOT_ANNOUNCED]:
            print(f"holdfast: {MEND}", file=sys.stderr)
    return int(bool(counts[FAILED] or counts[NOT_ANNOUNCED]))


def _tell(outcome: SubmitResult, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"job": outcome.job, "outcome": outcome.outcome, "reason": outcome.reason}))
    elif outcome.reason:
        print(f"{outcome.job}: {outcome.outcome}: {outcome.reason}", file=sys.stderr)


def submit(env: Environment, orders: Sequence[Order]) -> Iterator[SubmitResult]:
    """Submit *orders*; says what became of each as soon as it is known.

    Safe to repeat: a job that has a record is left alone.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong. Raised when all that was begun has its outcome.
    """
    yield from Batch(env).submit(orders)


@define
class Batch:
    """Orders being submitted.

    Attributes:
        env: Where to.
        wrong: The first proof that the queue, the bucket or the credentials are wrong; nothing new is begun then.
        has_archive: Whether any job was archived, so that each id is looked up there.
    """

    env: Environment
    wrong: ConfigError | None = None
    has_archive: bool = False

    def submit(self, orders: Iterable[Order]) -> Iterator[SubmitResult]:
        """See `submit`."""
        self.has_archive = next(iter(self.env.store.list(self.env.layout.archive_index)), None) is not None
        ready: list[JobRecord] = []
        batches: list[Future[list[SubmitResult]]] = []
        with ThreadPoolExecutor(WRITERS) as writers, ThreadPoolExecutor(SENDERS) as senders:
            for written in as_completed([writers.submit(self._write, order) for order in orders]):
                answer = written.result()
                if isinstance(answer, SubmitResult):
                    yield answer
                elif answer is not None:
                    ready.append(answer)
                if len(ready) == BATCH:
                    batches.append(senders.submit(self._announce, ready))
                    ready = []
            if ready:
                batches.append(senders.submit(self._announce, ready))
            for announced in as_completed(batches):
                yield from announced.result()
        if self.wrong:
            raise self.wrong

    def _write(self, order: Order) -> JobRecord | SubmitResult | None:
        """Put the record; None if that was not tried, or cannot have been done, because something is wrong."""
        if self.wrong:
            return None
        stamps = Timestamps(submitted=iso(self.env.clock.now()))
        record = JobRecord(
            order.job, order.workload, order.params, dispatch=FIRST_DISPATCH, labels=order.labels, timestamps=stamps
        )
        keys = self.env.layout.job(order.job)
        try:
            expect_room(record)
            # A courtesy: should it be archived between here and the next line, no worker begins it all the same.
            if self.has_archive and is_archived(self.env.store, keys):
                return SubmitResult(order.job, ALREADY, ARCHIVED)
            answer = self.env.record_store.write(keys.record, record, ABSENT)
        except ConfigError as error:
            self.wrong = self.wrong or error
            return None
        except HoldfastError as error:
            return SubmitResult(order.job, FAILED, str(error))
        if isinstance(answer, WriteConflict):
            state = answer.found.record.state if answer.found else "gone again"
            return SubmitResult(order.job, ALREADY, f"it is {state}")
        return record

    def _announce(self, records: Sequence[JobRecord]) -> list[SubmitResult]:
        messages: list[Message] = [announce(record, FIRST_DISPATCH) for record in records]
        try:
            refused = {failure.message.job: failure.reason for failure in self.env.queue.send(messages)}
        except HoldfastError as error:
            if isinstance(error, ConfigError):
                self.wrong = self.wrong or error
            refused = {message.job: str(error) for message in messages}
        return [
            SubmitResult(record.job, NOT_ANNOUNCED, refused[record.job])
            if record.job in refused
            else SubmitResult(record.job, SUBMITTED)
            for record in records
        ]


def _jobs_of(name: str) -> list[str]:
    if not is_job_id(name) or Path(name).is_dir():
        folders = job_folders(Path(name))
        wrong = [folder.name for folder in folders if not is_job_id(folder.name)]
        if wrong:
            raise ConfigError(f"{name}: {wrong[0]!r} is no job id")
        return [folder.name for folder in folders]
    return [name]


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--param {text!r} is not NAME=VALUE")
    try:
        return name, _json(value)
    except (ValueError, RecursionError):
        return name, value


def label(text: str) -> tuple[str, str]:
    """A label as a command line gives it, NAME=VALUE.

    Raises:
        ConfigError: It is none.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--label {text!r} is not NAME=VALUE")
    return name, value


def _json(text: str) -> Any:
    """JSON proper: Python's reader would take NaN and Infinity too, which no other reader of the record does."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _lines(file: Path, template: Order) -> Iterator[Order]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # not at U+2028, which may stand in JSON
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _order(_json(line), template)
            except (ValueError, RecursionError, PermanentError) as error:
                raise ConfigError(f"{file}, line {number}: {error}; nothing was submitted") from error


def _order(raw: object, template: Order) -> Order:
    if not isinstance(raw, dict) or not raw.keys() <= {"job", "workload", "params", "labels"}:
        raise PermanentError('is not an object with "job", and perhaps "workload", "params" and "labels"')
    job, named, given = raw.get("job"), raw.get("workload", template.workload), raw.get("params", {})
    labels = raw.get("labels", {})
    if not isinstance(job, str) or not is_job_id(job):
        raise PermanentError(f"{job!r} is no job id")
    if not isinstance(named, str) or not named or not isinstance(given, dict):
        raise PermanentError('"workload" must be a name and "params" an object')
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        raise PermanentError('"labels" must be an object of texts')
    order = Order(job, named, {**template.params, **given}, {**template.labels, **labels})
    saving_interval(order.params, ANY)
    return order
