"""`holdfast cancel` and `holdfast retry`: what operators may do to a job, by compare-and-swap like everybody else.

Whatever an operator does to a job that nobody owns makes a new epoch, so that a node that was only thought to be gone
cannot undo it.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from attrs import evolve

from client.config.composition import Site
from client.operations.notices import tell_quietly, with_notice
from lifecycle.attempt.salad_demo import STATE
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError
from lifecycle.job_record import Control, JobRecord, iso
from lifecycle.key_layout import is_job_id
from lifecycle.record.archive_format import is_archived
from lifecycle.record.message import announce_anew
from lifecycle.record.record_store import Conflict, Held
from lifecycle.states import State, Trigger, is_legal

UNANNOUNCED: Final = "is queued, but no message was sent ({}): run `holdfast reconcile --older 0`"
ARCHIVED: Final = "is archived, and an archived job is not opened again: submit its work under another id"
TRIES: Final = 10  # an owner writes once a heartbeat, so few are ever needed

Act = Callable[[Site, str], str]


def run(site: Site, jobs: Sequence[str], act: Act) -> int:
    """Do *act* to each of *jobs*; what cannot be done to one does not stop the others.

    Returns:
        0; 1 if it could not be done to one, which stderr names.

    Raises:
        ConfigError: Wrong queue, bucket or credentials: the next job would fare no better.
    """
    refused = 0
    for job in jobs:
        try:
            print(f"{job}: {act(site, job)}")
        except ConfigError:
            raise
        except HoldfastError as error:
            print(f"holdfast: {job}: {error}", file=sys.stderr)
            refused += 1
    tell_quietly(site, jobs)
    return int(bool(refused))


def cancel(site: Site, job: str) -> str:
    """End a job: at once if nobody owns it, otherwise its owner does at its next beat. Safe to repeat.

    Raises:
        PermanentError: There is no such job, or it is over.
        RetryableError: The store cannot be reached.
    """

    def change(held: Held) -> JobRecord:
        record = held.record
        if not is_legal(record.state, Trigger.CANCEL):
            raise PermanentError(f"is {record.state}: there is nothing to cancel")
        if record.is_owned(held.age_s):
            return evolve(record, control=evolve(record.control, cancel=True))
        stamps = evolve(record.timestamps, finished=iso(site.clock.now()))
        ended = evolve(record, state=State.CANCELLED, epoch=record.epoch + 1, owner=None, timestamps=stamps)
        return with_notice(site, ended, "cancelled")

    written = _change(site, job, change)
    return "cancelled" if written.state is State.CANCELLED else f"{written.owner} is asked to end it at its next beat"


def retry(site: Site, job: str) -> str:
    """Open a failed or cancelled job again; it goes on from its last checkpoint.

    Raises:
        PermanentError: There is no such job, it is neither failed nor cancelled, or it is archived.
        RetryableError: The store or the queue cannot be reached; `holdfast reconcile` sends a missing message.
    """
    return _reopen(site, job, from_start=False)


def retry_from_start(site: Site, job: str) -> str:
    """The same, but forgetting its checkpoints."""
    return _reopen(site, job, from_start=True)


def _reopen(site: Site, job: str, *, from_start: bool) -> str:
    def change(held: Held) -> JobRecord:
        record = held.record
        if record.archived or is_archived(site.store, site.place.job(job)):
            raise PermanentError(ARCHIVED)
        if not is_legal(record.state, Trigger.RETRY):
            raise PermanentError(f"is {record.state}: only a failed or cancelled job is tried again")
        opened = evolve(
            record,
            state=State.QUEUED,
            epoch=record.epoch + 1,
            failures=0,
            deaths=0,
            error=None,
            control=Control(),
            timestamps=evolve(record.timestamps, finished=None),
        )
        if not from_start:
            return with_notice(site, opened, "retried")
        if record.demo:  # before the record: whoever takes the job must not find it any more
            site.store.delete([f"{site.place.job(job).folder}{STATE}"])
        return with_notice(site, evolve(opened, checkpoint=None, fallback=None, ran_s=0.0), "retried")

    record = _change(site, job, change)
    keys = site.place.job(job)
    try:
        refused = site.queue.send([announce_anew(keys, record, record.dispatch + 1, bucket=site.bucket)])
    except RetryableError as error:
        raise RetryableError(UNANNOUNCED.format(error)) from error
    if refused:
        raise RetryableError(UNANNOUNCED.format(refused[0].reason))
    step = record.checkpoint.step if record.checkpoint else None
    return "queued again" + (f", from step {step}" if step else "")


def _change(site: Site, job: str, change: Callable[[Held], JobRecord]) -> JobRecord:
    if not is_job_id(job):
        raise PermanentError("is no job id")
    key = site.place.job(job).record
    for _ in range(TRIES):
        held = site.ledger.read(key)
        if held is None and is_archived(site.store, site.place.job(job)):
            raise PermanentError(ARCHIVED)
        if held is None:
            raise PermanentError(f"there is no such job under prefix {site.place.prefix!r}")
        answer = site.ledger.write(key, change(held), held.version)
        if not isinstance(answer, Conflict):
            return answer.record
    raise RetryableError(f"somebody else wrote its record {TRIES} times in between; try again")
