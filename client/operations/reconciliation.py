"""Making the queue match the records: a message for each unfinished job that has lost its own.

Messages are lost to retention, to a dead-letter queue, to a purge, and to a crash between a record and its message. A
job gets a new message if it is not settled, has no owner, and its record has not changed for a while. The message is
sent first, and its number is recorded second: a number in the record means that such a message was sent, so receivers
may drop older ones.

State changes whose notices no attempt will deliver, because the process that made them died or the receiver was down,
are delivered here.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Final

from attrs import define, evolve, field, frozen

from client.config.environment import Environment
from client.operations.notices import add_notice, has_undelivered_notices
from client.records.reader import READERS, Lookup, read_live
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import LEASE_SLACK_S
from lifecycle.record.archive_format import is_archived
from lifecycle.record.blame import with_age
from lifecycle.record.message import reannounce
from lifecycle.record.operator_changes import cancelled
from lifecycle.record.record_store import StoredRecord

MARGIN_S: Final = 1.0  # longer than a lease, before a second read shows whether its owner is alive
REUSED_ID: Final = "this id is archived, so no worker starts the job: cancelled; submit its work under another id"


@frozen
class AnnouncedJob:
    """A job that a message was sent for, or the reason why the message could not be sent."""

    job: str
    problem: str | None


@define
class PendingWork:
    """The work that a reconcile found.

    Attributes:
        missing: Records of jobs that need a message.
        undelivered: Jobs with notices that no attempt will deliver.
        problems: A line for each record that cannot be read or reuses an archived id.
    """

    missing: list[StoredRecord] = field(factory=list)
    undelivered: list[str] = field(factory=list)
    problems: list[str] = field(factory=list)


def find_pending(env: Environment, jobs: Iterator[Lookup], older: timedelta, *, dry_run: bool) -> PendingWork:
    """Find the jobs that need a message or a delivery. Cancels jobs that reuse an archived id, unless *dry_run*.

    Args:
        env: The environment to reconcile.
        jobs: All its jobs.
        older: Ignore jobs whose record was written more recently than this.
        dry_run: Change nothing.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
        RetryableError: The bucket cannot be reached.
    """
    pending = PendingWork()
    for found in _with_ages_of_leases(env, jobs):
        if found.stored and is_forgotten(found.stored, older):
            if found.stored.record.attempts or not is_archived(env.store, env.layout.job(found.job)):
                pending.missing.append(found.stored)  # the worker that takes it delivers the notices in its outbox
                continue
            if not dry_run:
                _cancel_reused_id(env, found.stored)
                pending.undelivered.append(found.job)
            pending.problems.append(f"{found.job}: {REUSED_ID}")
        elif found.stored and env.notification_policy and has_undelivered_notices(found.stored, older):
            pending.undelivered.append(found.job)
        elif found.problem:
            pending.problems.append(found.problem)
    return pending


def _with_ages_of_leases(env: Environment, jobs: Iterator[Lookup]) -> Iterator[Lookup]:
    """Yield *jobs*; those with an owner and an unknown age last, after a second read that shows who is alive."""
    unknown: list[tuple[Lookup, StoredRecord]] = []
    for found in jobs:
        if found.stored and found.stored.age_s is None and found.stored.record.is_owned(None):
            unknown.append((found, found.stored))
        else:
            yield found
    if not unknown:
        return
    wait_s = max(stored.record.lease_s for _, stored in unknown) + LEASE_SLACK_S + MARGIN_S
    env.clock.sleep(wait_s)
    for before, stored in unknown:
        found = read_live(env, before.job)
        is_unchanged = found.stored is not None and found.stored.version == stored.version
        yield evolve(before, stored=evolve(stored, age_s=wait_s)) if is_unchanged else found


def is_forgotten(stored: StoredRecord, older: timedelta) -> bool:
    """Return True if the job may have no message: not settled, no owner, and not written within *older*.

    A record of unknown age may be older: a second message is harmless.
    """
    record = stored.record
    is_recent = stored.age_s is not None and stored.age_s < older.total_seconds()
    return not record.is_settled and not record.is_owned(stored.age_s) and not is_recent


def _cancel_reused_id(env: Environment, stored: StoredRecord) -> None:
    """Cancel a job whose id was archived while it was submitted again: no worker would ever start it."""
    ended = cancelled(stored, env.clock.now(), error=REUSED_ID)
    with suppress(RetryableError, PermanentError):  # the next run finds it again
        key = env.layout.job(stored.record.job).record
        env.record_store.write(key, add_notice(env, ended, "cancelled"), stored.version)


def send_missing(env: Environment, missing: Sequence[StoredRecord]) -> Iterator[AnnouncedJob]:
    """Send a message for each of *missing*, and number it in the record.

    Raises:
        ConfigError: The queue, the bucket or the credentials are wrong.
        RetryableError: The queue cannot be reached.
    """
    messages = [
        reannounce(env.layout.job(one.record.job), one.record, one.record.dispatch + 1, bucket=env.bucket)
        for one in missing
    ]
    refused = {failure.message.job: failure.reason for failure in env.queue.send(messages)}
    with ThreadPoolExecutor(READERS) as pool:
        sent = (one for one in missing if one.record.job not in refused)
        list(pool.map(lambda stored: _record_number(env, stored), sent))
    for stored in missing:
        yield AnnouncedJob(stored.record.job, refused.get(stored.record.job))


def _record_number(env: Environment, stored: StoredRecord) -> None:
    """Record the number of the message that was sent; without it, older messages are only dropped later."""
    numbered = evolve(with_age(stored.record, stored.age_s or 0.0), dispatch=stored.record.dispatch + 1)
    # A conflict means that another process has the job in hand, and a write with an unknown outcome is made up for when
    # the job is taken. Neither may keep the other jobs from being numbered.
    with suppress(RetryableError, PermanentError):
        env.record_store.write(env.layout.job(stored.record.job).record, numbered, stored.version)
