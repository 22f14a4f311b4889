"""Submitting jobs: a record for each job, then a message for each record, never in the other order.

A record is written only if there is none, so a job that is submitted twice is submitted once. Records are written in
parallel, and a batch of messages is sent as soon as its records are written.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, Final

from attrs import define, field, frozen

from client.config.environment import Environment
from lifecycle.errors import ConfigError, HoldfastError
from lifecycle.job_record import JobRecord, Timestamps, iso
from lifecycle.ports.queue import Message
from lifecycle.ports.store import ABSENT
from lifecycle.record.archive_format import is_archived
from lifecycle.record.codec import expect_room
from lifecycle.record.message import announce
from lifecycle.record.record_store import WriteConflict

WRITERS: Final = 64  # a round trip takes far longer than our own work
SENDERS: Final = 8
BATCH: Final = 10
FIRST_MESSAGE: Final = 1

SUBMITTED, ALREADY, REFUSED, FAILED, NOT_ANNOUNCED = OUTCOMES = (
    "submitted",
    "already submitted",
    "refused",
    "failed",
    "not announced",
)
NOT_DONE: Final = frozenset({REFUSED, FAILED, NOT_ANNOUNCED})
LONGEST: Final = 60  # characters of a parameter that are shown
ARCHIVED: Final = "it is archived (see `holdfast show`): to run it again, submit its work under another id"


@frozen
class JobRequest:
    """A job to submit: its id, workload, parameters and labels."""

    job: str
    workload: str
    params: dict[str, Any]
    labels: dict[str, str] = field(factory=dict)


@frozen
class SubmitResult:
    """The result for one job: one of OUTCOMES, and the reason unless it is `submitted`."""

    job: str
    outcome: str
    reason: str | None = None


def jobs_without_input(env: Environment, requests: Sequence[JobRequest]) -> list[str]:
    """Return the jobs of *requests* that have neither an input in the bucket nor a record.

    Raises:
        RetryableError: The bucket cannot be listed.
        ConfigError: The bucket or its credentials are wrong.
    """

    def lacks(request: JobRequest) -> bool:
        keys = env.layout.job(request.job)
        for prefix in (keys.input, keys.input_file):
            if next(iter(env.store.list(prefix)), None) is not None:
                return False
        return env.record_store.read(keys.record) is None and not is_archived(env.store, keys)

    with ThreadPoolExecutor(WRITERS) as readers:
        found = readers.map(lacks, requests)
        return [request.job for request, is_lacking in zip(requests, found, strict=True) if is_lacking]


def differences(record: JobRecord, request: JobRequest) -> list[str]:
    """Return a text for each way in which *request* asks for other work than *record*."""
    found = []
    if record.workload != request.workload:
        found.append(f"workload {record.workload!r}, now {request.workload!r}")
    for kind, before, now in (("", record.params, request.params), ("label ", record.labels, request.labels)):
        shown = {name: (_shown(before, name), _shown(now, name)) for name in sorted({*before, *now})}
        found += [
            f"{kind}{name} {old:.{LONGEST}}, now {new:.{LONGEST}}" for name, (old, new) in shown.items() if old != new
        ]
    return found


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name], sort_keys=True) if name in values else "not set"


def submit(env: Environment, requests: Iterable[JobRequest]) -> Iterator[SubmitResult]:
    """Submit *requests*, and yield the result for each as soon as it is known.

    Safe to repeat: a job that has a record is left unchanged.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong. Raised after every job that was begun has
            yielded its result.
    """
    yield from Submission(env).submit(requests)


@define
class Submission:
    """A submission in progress.

    Attributes:
        env: The environment to submit to.
        config_error: First proof that the queue, the bucket or the credentials are wrong; no job is begun after it.
        has_archive: Some job was archived, so each id is looked up in the archive.
    """

    env: Environment
    config_error: ConfigError | None = None
    has_archive: bool = False

    def submit(self, requests: Iterable[JobRequest]) -> Iterator[SubmitResult]:
        """Submit *requests*; see the function of the same name."""
        self.has_archive = next(iter(self.env.store.list(self.env.layout.archive_index)), None) is not None
        ready: list[JobRecord] = []
        batches: list[Future[list[SubmitResult]]] = []
        with ThreadPoolExecutor(WRITERS) as writers, ThreadPoolExecutor(SENDERS) as senders:
            for written in as_completed([writers.submit(self._write, request) for request in requests]):
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
        if self.config_error:
            raise self.config_error

    def _write(self, request: JobRequest) -> JobRecord | SubmitResult | None:
        """Write the record; return None if that was not tried, or failed, because of a configuration error."""
        if self.config_error:
            return None
        record = JobRecord(
            request.job,
            request.workload,
            request.params,
            dispatch=FIRST_MESSAGE,
            labels=request.labels,
            timestamps=Timestamps(submitted=iso(self.env.clock.now())),
        )
        keys = self.env.layout.job(request.job)
        try:
            expect_room(record)
            # A courtesy: if the job is archived between here and the next line, no worker starts it anyway.
            if self.has_archive and is_archived(self.env.store, keys):
                return SubmitResult(request.job, ALREADY, ARCHIVED)
            answer = self.env.record_store.write(keys.record, record, ABSENT)
        except ConfigError as error:
            self.config_error = self.config_error or error
            return None
        except HoldfastError as error:
            return SubmitResult(request.job, FAILED, str(error))
        if isinstance(answer, WriteConflict):
            return _found_already(request, answer.found.record if answer.found else None)
        return record

    def _announce(self, records: Sequence[JobRecord]) -> list[SubmitResult]:
        """Send a message for each record."""
        bucket, prefix = self.env.bucket, self.env.layout.prefix
        messages: list[Message] = [announce(record, FIRST_MESSAGE, bucket=bucket, prefix=prefix) for record in records]
        try:
            refused = {failure.message.job: failure.reason for failure in self.env.queue.send(messages)}
        except HoldfastError as error:
            if isinstance(error, ConfigError):
                self.config_error = self.config_error or error
            refused = {message.job: str(error) for message in messages}
        return [
            SubmitResult(record.job, NOT_ANNOUNCED, refused[record.job])
            if record.job in refused
            else SubmitResult(record.job, SUBMITTED)
            for record in records
        ]


def _found_already(request: JobRequest, record: JobRecord | None) -> SubmitResult:
    """Return the result for a job that has a record: *record*, or None if it is gone again."""
    if record is None:
        return SubmitResult(request.job, ALREADY, "its record is gone again")
    found = differences(record, request)
    if not found:
        return SubmitResult(request.job, ALREADY, f"it is {record.state}")
    return SubmitResult(request.job, REFUSED, f"it is {record.state}, and was submitted with {'; '.join(found)}")
