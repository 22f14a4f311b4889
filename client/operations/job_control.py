"""Cancelling and retrying a job, by compare-and-swap like every other change of a record.

A change to a job without an owner starts a new epoch, so a node that was only presumed dead cannot undo it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from client.config.environment import Environment
from client.operations.checkpoints import known_checkpoints, select_checkpoint
from client.operations.notices import add_notice
from client.views.action_results import ActionResult
from lifecycle.attempt.salad_demo import STATE
from lifecycle.errors import ConfigError, HoldfastError, IllegalTransitionError, PermanentError, RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import is_job_id
from lifecycle.record.archive_format import is_archived
from lifecycle.record.message import reannounce
from lifecycle.record.operator_changes import cancellation_requested, cancelled, reopened
from lifecycle.record.pins import list_pins
from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.record.usability import with_checkpoint
from lifecycle.states import Effect, Facts, State, Trigger, edge_for, is_legal

NOT_ANNOUNCED: Final = "is queued, but no message was sent ({}): run `holdfast reconcile --older 0`"
ARCHIVED: Final = "is archived, and an archived job cannot be reopened: submit its work under another id"
TRIES: Final = 10  # an owner writes once per heartbeat, so a few are enough

JobAction = Callable[[Environment, str], str]
"""Changes one job, and returns what was done, for people."""


def apply_to_each(env: Environment, jobs: Sequence[str], action: JobAction) -> Iterator[ActionResult]:
    """Apply *action* to each of *jobs*; a job that cannot be changed does not stop the others.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong, so no other job could be changed either.
    """
    for job in jobs:
        try:
            yield ActionResult(job, done=action(env, job))
        except ConfigError:
            raise
        except HoldfastError as error:
            yield ActionResult(job, problem=str(error))


def cancel(env: Environment, job: str) -> str:
    """Cancel a job: at once if it has no owner, otherwise at its owner's next heartbeat. Safe to repeat.

    Raises:
        PermanentError: The job does not exist or is over.
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
        return add_notice(env, ended, "cancelled")

    _, written = _change(env, job, change)
    if written.state is State.CANCELLED:
        return "cancelled"
    return f"cancellation requested; {written.owner} ends the job at its next heartbeat"


def retry(env: Environment, job: str) -> str:
    """Reopen a failed or cancelled job; it continues from its last checkpoint.

    Raises:
        PermanentError: The job does not exist, is neither failed nor cancelled, or is archived.
        RetryableError: The store or the queue cannot be reached. If only the message is missing, `holdfast reconcile`
            sends it.
    """
    return _reopen(env, job)


def retry_from_start(env: Environment, job: str) -> str:
    """Reopen a failed or cancelled job without its checkpoints; raises as `retry` does."""
    return _reopen(env, job, from_start=True)


def retry_from_checkpoint(env: Environment, job: str, *, wanted: str) -> str:
    """Reopen a failed or cancelled job; it goes on from the checkpoint *wanted*: see `select_checkpoint`.

    Raises as `retry` does, and if there is no such checkpoint.
    """
    return _reopen(env, job, wanted=wanted)


def _reopen(env: Environment, job: str, *, from_start: bool = False, wanted: str | None = None) -> str:
    def change(stored: StoredRecord) -> JobRecord:
        record = stored.record
        if record.archived or is_archived(env.store, env.layout.job(job)):
            raise PermanentError(ARCHIVED)
        if not is_legal(record.state, Trigger.RETRY):
            raise PermanentError(f"is {record.state}: only a failed or cancelled job can be retried")
        if from_start and record.demo:  # before the record is written: the next worker must not find this state
            env.store.delete([f"{env.layout.job(job).folder}{STATE}"])
        if wanted is None:
            return add_notice(env, reopened(record, from_start=from_start), "retried")
        pins = list_pins(env.store, env.layout.job(job))
        ref = select_checkpoint(record, pins, wanted)
        older = [
            one.ref
            for one in known_checkpoints(record, pins)
            if one.ref.seq < ref.seq and one.ref not in record.suspects
        ]
        again = reopened(with_checkpoint(record, ref, fallback=older[-1] if older else None), from_start=False)
        return add_notice(env, again, "retried")

    before, record = _change(env, job, change)
    for effect in edge_for(before.state, Trigger.RETRY, Facts()).after_record:
        EFFECTS[effect](env, record)
    step = record.checkpoint.step if record.checkpoint else None
    if wanted and record.checkpoint:
        return f"queued again, from checkpoint {record.checkpoint.seq}" + ("" if step is None else f" of step {step}")
    return "queued again" + (f", from step {step}" if step else "")


def announce_job(env: Environment, record: JobRecord) -> None:
    """Send the message under which a reopened job is taken.

    Raises:
        RetryableError: It was not sent; the error names the command that makes up for it.
    """
    message = reannounce(env.layout.job(record.job), record, record.dispatch + 1, bucket=env.bucket)
    try:
        refused = [failure.reason for failure in env.queue.send([message])]
    except RetryableError as error:
        raise RetryableError(NOT_ANNOUNCED.format(error)) from error
    if refused:
        raise RetryableError(NOT_ANNOUNCED.format(refused[0]))


EFFECTS: Final[Mapping[Effect, Callable[[Environment, JobRecord], None]]] = {Effect.ANNOUNCE_JOB: announce_job}
"""The effects of operators' transitions, as the table names them."""


def _change(env: Environment, job: str, change: Callable[[StoredRecord], JobRecord]) -> tuple[JobRecord, JobRecord]:
    """Change a job's record by compare-and-swap, and return it as it was before and as it was written."""
    if not is_job_id(job):
        raise PermanentError("is not a valid job id")
    key = env.layout.job(job).record
    for _ in range(TRIES):
        stored = env.record_store.read(key)
        if stored is None and is_archived(env.store, env.layout.job(job)):
            raise PermanentError(ARCHIVED)
        if stored is None:
            raise PermanentError(f"there is no such job under prefix {env.layout.prefix!r}")
        answer = env.record_store.write(key, change(stored), stored.version)
        if not isinstance(answer, WriteConflict):
            return stored.record, answer.record
    raise RetryableError(f"the record was changed by others {TRIES} times in a row; try again")
