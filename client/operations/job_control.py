"""`holdfast cancel` and `holdfast retry`: what operators may do to a job, by compare-and-swap like everybody else.

Whatever an operator does to a job that nobody owns makes a new epoch, so that a node that was only thought to be gone
cannot undo it.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from client.config.composition import Environment
from client.operations.notices import noticed, tell_quietly
from lifecycle.attempt.salad_demo import STATE
from lifecycle.errors import ConfigError, HoldfastError, IllegalTransitionError, PermanentError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import is_job_id
from lifecycle.record.archive_format import is_archived
from lifecycle.record.message import reannounce
from lifecycle.record.operator_changes import cancellation_requested, cancelled, reopened
from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.states import State, Trigger, is_legal

UNANNOUNCED: Final = "is queued, but no message was sent ({}): run `holdfast reconcile --older 0`"
ARCHIVED: Final = "is archived, and an archived job is not opened again: submit its work under another id"
TRIES: Final = 10  # an owner writes once a heartbeat, so few are ever needed

Act = Callable[[Environment, str], str]


def run(env: Environment, jobs: Sequence[str], act: Act) -> int:
    """Do *act* to each of *jobs*; what cannot be done to one does not stop the others.

    Returns:
        0; 1 if it could not be done to one, which stderr names.

    Raises:
        ConfigError: Wrong queue, bucket or credentials: the next job would fare no better.
    """
    refused = 0
    for job in jobs:
        try:
            print(f"{job}: {act(env, job)}")
        except ConfigError:
            raise
        except HoldfastError as error:
            print(f"holdfast: {job}: {error}", file=sys.stderr)
            refused += 1
    tell_quietly(env, jobs)
    return int(bool(refused))


def cancel(env: Environment, job: str) -> str:
    """End a job: at once if nobody owns it, otherwise its owner does at its next beat. Safe to repeat.

    Raises:
        PermanentError: There is no such job, or it is over.
        RetryableError: The store cannot be reached.
    """

    def change(stored: StoredRecord) -> JobRecord:
        record = stored.record
        if not is_legal(record.state, Trigger.CANCEL):
            raise PermanentError(f"is {record.state}: there is nothing to cancel")
        try:
            ended = cancelled(stored, env.clock.now())
        except IllegalTransitionError:  # its owner's lease is fresh
            return cancellation_requested(record)
        return noticed(env, ended, "cancelled")

    written = _change(env, job, change)
    return "cancelled" if written.state is State.CANCELLED else f"{written.owner} is asked to end it at its next beat"


def retry(env: Environment, job: str) -> str:
    """Open a failed or cancelled job again; it goes on from its last checkpoint.

    Raises:
        PermanentError: There is no such job, it is neither failed nor cancelled, or it is archived.
        RetryableError: The store or the queue cannot be reached; `holdfast reconcile` sends a missing message.
    """
    return _reopen(env, job, from_start=False)


def retry_from_start(env: Environment, job: str) -> str:
    """The same, but forgetting its checkpoints."""
    return _reopen(env, job, from_start=True)


def _reopen(env: Environment, job: str, *, from_start: bool) -> str:
    def change(stored: StoredRecord) -> JobRecord:
        record = stored.record
        if record.archived or is_archived(env.store, env.layout.job(job)):
            raise PermanentError(ARCHIVED)
        if not is_legal(record.state, Trigger.RETRY):
            raise PermanentError(f"is {record.state}: only a failed or cancelled job is tried again")
        if from_start and record.demo:  # before the record: whoever takes the job must not find it any more
            env.store.delete([f"{env.layout.job(job).folder}{STATE}"])
        return noticed(env, reopened(record, from_start=from_start), "retried")

    record = _change(env, job, change)
    keys = env.layout.job(job)
    try:
        refused = env.queue.send([reannounce(keys, record, record.dispatch + 1, bucket=env.bucket)])
    except RetryableError as error:
        raise RetryableError(UNANNOUNCED.format(error)) from error
    if refused:
        raise RetryableError(UNANNOUNCED.format(refused[0].reason))
    step = record.checkpoint.step if record.checkpoint else None
    return "queued again" + (f", from step {step}" if step else "")


def _change(env: Environment, job: str, change: Callable[[StoredRecord], JobRecord]) -> JobRecord:
    if not is_job_id(job):
        raise PermanentError("is no job id")
    key = env.layout.job(job).record
    for _ in range(TRIES):
        stored = env.record_store.read(key)
        if stored is None and is_archived(env.store, env.layout.job(job)):
            raise PermanentError(ARCHIVED)
        if stored is None:
            raise PermanentError(f"there is no such job under prefix {env.layout.prefix!r}")
        answer = env.record_store.write(key, change(stored), stored.version)
        if not isinstance(answer, WriteConflict):
            return answer.record
    raise RetryableError(f"somebody else wrote its record {TRIES} times in between; try again")
