"""`holdfast reconcile`: the queue made right from the records.

Messages get lost: to retention, to a dead-letter queue, to a purge, to a crash between a record and its message. A job
that is not settled, that nobody owns, and whose record nobody has touched for a while gets a message. The message is
sent first and numbered in the record second: a number in the record means that such a message was sent, so receivers
may drop older ones.

Changes of state that nobody is left to tell of, because whoever made them died or the receiver was down, are told.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Final

from attrs import evolve, frozen

from client.config.composition import Environment
from client.operations.notices import is_untold, noticed, summary, tell
from client.records.reader import READERS, read_all
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.record.archive_format import is_archived
from lifecycle.record.message import reannounce
from lifecycle.record.operator_changes import cancelled
from lifecycle.record.record_store import StoredRecord

USED: Final = "this id is archived, so no worker begins it: cancelled; submit its work under another id"


@frozen
class AnnouncedJob:
    """A job that a message was sent for, or not, and then why not."""

    job: str
    problem: str | None


def run(env: Environment, *, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Send what is missing; with *dry_run* only say so.

    Returns:
        0; 1 if a record could not be read or a message not be sent.
    """
    missing, untold, problems = [], [], 0
    for found in read_all(env):
        if found.stored and is_forgotten(found.stored, older):
            if found.stored.record.attempts or not is_archived(env.store, env.layout.job(found.job)):
                missing.append(found.stored)  # whoever takes it delivers what lies in its outbox
                continue
            problems += 1
            print(f"holdfast: {found.job}: {_refuse(env, found.stored, dry_run=dry_run)}", file=sys.stderr)
            untold += [] if dry_run else [found.job]
        elif found.stored and env.notification_policy and is_untold(found.stored, older):
            untold.append(found.job)
        elif found.problem:
            print(f"holdfast: {found.problem}", file=sys.stderr)
            problems += 1
    for announced in _announce(env, missing, dry_run=dry_run):
        problems += announced.problem is not None
        if as_json:
            print(
                json.dumps(
                    {"job": announced.job, "sent": not (dry_run or announced.problem), "problem": announced.problem}
                )
            )
        elif announced.problem:
            print(f"holdfast: {announced.job}: no message sent: {announced.problem}", file=sys.stderr)
        else:
            print(f"{announced.job}: {'needs a message' if dry_run else 'message sent'}")
    if not as_json:
        print(f"{len(missing)} jobs had no fresh message")
    problems += _tell(env, untold, dry_run=dry_run, as_json=as_json)
    return int(bool(problems))


def _refuse(env: Environment, stored: StoredRecord, *, dry_run: bool) -> str:
    """End a job whose id was archived while it was submitted anew: no worker would ever begin it."""
    if not dry_run:
        refused = noticed(env, cancelled(stored, env.clock.now(), error=USED), "cancelled")
        with suppress(RetryableError, PermanentError):  # the next run finds it again
            env.record_store.write(env.layout.job(stored.record.job).record, refused, stored.version)
    return USED


def _tell(env: Environment, untold: list[str], *, dry_run: bool, as_json: bool) -> int:
    """Deliver what no attempt will; returns for how many jobs that did not succeed."""
    if dry_run:
        for job in [] if as_json else untold:
            print(f"{job}: has changes that are not told yet")
        return 0
    told = tell(env, untold)
    for one in told:
        if as_json:
            print(json.dumps({"job": one.job, "told": one.delivered, "left": one.left, "problem": one.problem}))
        elif one.delivered:
            print(f"{one.job}: {one.delivered} changes told")
    left = [one for one in told if one.problem]
    if left and not as_json:
        print(f"holdfast: {summary(left)}", file=sys.stderr)
    return len(left)


def is_forgotten(stored: StoredRecord, older: timedelta) -> bool:
    """Whether nobody may be coming for this job: not settled, not owned, and not touched for *older*."""
    record = stored.record
    return not record.is_settled and not record.is_owned(stored.age_s) and stored.age_s >= older.total_seconds()


def _announce(env: Environment, missing: list[StoredRecord], *, dry_run: bool) -> Iterator[AnnouncedJob]:
    messages = {
        stored.record.job: reannounce(
            env.layout.job(stored.record.job), stored.record, stored.record.dispatch + 1, bucket=env.bucket
        )
        for stored in missing
    }
    refused = {} if dry_run else {f.message.job: f.reason for f in env.queue.send(list(messages.values()))}
    if not dry_run:
        with ThreadPoolExecutor(READERS) as pool:
            list(
                pool.map(lambda stored: _number(env, stored), (one for one in missing if one.record.job not in refused))
            )
    for stored in missing:
        yield AnnouncedJob(stored.record.job, refused.get(stored.record.job))


def _number(env: Environment, stored: StoredRecord) -> None:
    """Let the record know of the message; without that, older messages are only dropped later."""
    numbered = evolve(stored.record, dispatch=stored.record.dispatch + 1)
    # Whoever wrote it meanwhile has the job in hand, and a write that may not have landed is made up for by the take:
    # neither may keep the other jobs from being numbered.
    with suppress(RetryableError, PermanentError):
        env.record_store.write(env.layout.job(stored.record.job).record, numbered, stored.version)
