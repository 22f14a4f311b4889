"""`holdfast reconcile`: send a message for each unfinished job that has none, and deliver waiting notices."""

import json
from collections.abc import Sequence
from datetime import timedelta

import click

from client import options
from client.config.environment import Environment
from client.operations.notices import deliver_notices, rejections, summary
from client.operations.reconciliation import AnnouncedJob, find_pending, send_missing
from client.records.reader import read_all
from client.views.output import complain, say
from lifecycle.record.record_store import StoredRecord


def run(env: Environment, *, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Reconcile the queue with the records; with *dry_run*, only report what would be done.

    Returns:
        0; 1 if a record could not be read or a message could not be sent.
    """
    backlog = find_pending(env, read_all(env), older, dry_run=dry_run)
    problems = len(backlog.problems)
    for problem in backlog.problems:
        complain(problem)
    for announced in _announced(env, backlog.missing, dry_run=dry_run):
        problems += announced.problem is not None
        _print_announced(announced, dry_run=dry_run, as_json=as_json)
    if not as_json:
        say(f"{len(backlog.missing)} jobs had no fresh message")
    problems += _deliver(env, backlog.undelivered, dry_run=dry_run, as_json=as_json)
    return int(bool(problems))


def _announced(env: Environment, missing: Sequence[StoredRecord], *, dry_run: bool) -> list[AnnouncedJob]:
    if dry_run:
        return [AnnouncedJob(stored.record.job, None) for stored in missing]
    return list(send_missing(env, missing))


def _print_announced(announced: AnnouncedJob, *, dry_run: bool, as_json: bool) -> None:
    job, problem = announced.job, announced.problem
    if as_json:
        say(json.dumps({"job": job, "sent": not (dry_run or problem), "problem": problem}))
    elif problem:
        complain(f"{job}: no message sent: {problem}")
    else:
        say(f"{job}: {'needs a message' if dry_run else 'message sent'}")


def _deliver(env: Environment, jobs: Sequence[str], *, dry_run: bool, as_json: bool) -> int:
    """Deliver the notices of *jobs*; return the number of jobs for which that failed."""
    if dry_run:
        for job in [] if as_json else jobs:
            say(f"{job}: has undelivered state changes")
        return 0
    results = deliver_notices(env, jobs)
    for line in rejections(results):
        complain(line)
    for one in results:
        if as_json:
            say(json.dumps({"job": one.job, "told": one.delivered, "left": one.left, "problem": one.problem}))
        elif one.delivered:
            say(f"{one.job}: {one.delivered} state changes delivered")
    left = [one for one in results if one.problem]
    if left and not as_json:
        complain(summary(left))
    return len(left)


@options.command(
    "reconcile",
    ("holdfast reconcile", "Send missing messages; once an hour, from cron, is a good habit."),
    ("holdfast reconcile --older 0", "At once, for jobs that have just been submitted, too."),
)
@click.option(
    "--older", metavar="TIME", type=options.DURATION, default="1h", help="Only jobs not changed for this long."
)
@options.dry_run_option
@options.json_option
def command(*, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Send a message for every unfinished job that has none.

    It also delivers state changes that the webhook has not received yet. It is safe to run twice, and beside workers.
    """
    return run(options.environment(), older=older, dry_run=dry_run, as_json=as_json)
