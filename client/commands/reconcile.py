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

from client.config.composition import Site
from client.operations.notices import is_untold, summary, tell, with_notice
from client.records.reader import READERS, read_all
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import iso
from lifecycle.record.archive_format import is_archived
from lifecycle.record.message import announce_anew
from lifecycle.record.record_store import Held
from lifecycle.states import State

USED: Final = "this id is archived, so no worker begins it: cancelled; submit its work under another id"


@frozen
class Announced:
    """A job that a message was sent for, or not, and then why not."""

    job: str
    problem: str | None


def run(site: Site, *, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Send what is missing; with *dry_run* only say so.

    Returns:
        0; 1 if a record could not be read or a message not be sent.
    """
    missing, untold, problems = [], [], 0
    for found in read_all(site):
        if found.held and is_forgotten(found.held, older):
            if found.held.record.attempts or not is_archived(site.store, site.place.job(found.job)):
                missing.append(found.held)  # whoever takes it delivers what lies in its outbox
                continue
            problems += 1
            print(f"holdfast: {found.job}: {_refuse(site, found.held, dry_run=dry_run)}", file=sys.stderr)
            untold += [] if dry_run else [found.job]
        elif found.held and site.telling and is_untold(found.held, older):
            untold.append(found.job)
        elif found.problem:
            print(f"holdfast: {found.problem}", file=sys.stderr)
            problems += 1
    for announced in _announce(site, missing, dry_run=dry_run):
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
    problems += _tell(site, untold, dry_run=dry_run, as_json=as_json)
    return int(bool(problems))


def _refuse(site: Site, held: Held, *, dry_run: bool) -> str:
    """End a job whose id was archived while it was submitted anew: no worker would ever begin it."""
    if not dry_run:
        stamps = evolve(held.record.timestamps, finished=iso(site.clock.now()))
        ended = evolve(held.record, state=State.CANCELLED, epoch=held.record.epoch + 1, error=USED, timestamps=stamps)
        refused = with_notice(site, ended, "cancelled")
        with suppress(RetryableError, PermanentError):  # the next run finds it again
            site.ledger.write(site.place.job(held.record.job).record, refused, held.version)
    return USED


def _tell(site: Site, untold: list[str], *, dry_run: bool, as_json: bool) -> int:
    """Deliver what no attempt will; returns for how many jobs that did not succeed."""
    if dry_run:
        for job in [] if as_json else untold:
            print(f"{job}: has changes that are not told yet")
        return 0
    told = tell(site, untold)
    for one in told:
        if as_json:
            print(json.dumps({"job": one.job, "told": one.delivered, "left": one.left, "problem": one.problem}))
        elif one.delivered:
            print(f"{one.job}: {one.delivered} changes told")
    left = [one for one in told if one.problem]
    if left and not as_json:
        print(f"holdfast: {summary(left)}", file=sys.stderr)
    return len(left)


def is_forgotten(held: Held, older: timedelta) -> bool:
    """Whether nobody may be coming for this job: not settled, not owned, and not touched for *older*."""
    record = held.record
    return not record.is_settled and not record.is_owned(held.age_s) and held.age_s >= older.total_seconds()


def _announce(site: Site, missing: list[Held], *, dry_run: bool) -> Iterator[Announced]:
    messages = {
        held.record.job: announce_anew(
            site.place.job(held.record.job), held.record, held.record.dispatch + 1, bucket=site.bucket
        )
        for held in missing
    }
    refused = {} if dry_run else {f.message.job: f.reason for f in site.queue.send(list(messages.values()))}
    if not dry_run:
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda held: _number(site, held), (one for one in missing if one.record.job not in refused)))
    for held in missing:
        yield Announced(held.record.job, refused.get(held.record.job))


def _number(site: Site, held: Held) -> None:
    """Let the record know of the message; without that, older messages are only dropped later."""
    numbered = evolve(held.record, dispatch=held.record.dispatch + 1)
    # Whoever wrote it meanwhile has the job in hand, and a write that may not have landed is made up for by the take:
    # neither may keep the other jobs from being numbered.
    with suppress(RetryableError, PermanentError):
        site.ledger.write(site.place.job(held.record.job).record, numbered, held.version)
