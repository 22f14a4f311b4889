"""`holdfast show JOB`: tell the story of one job: its state, what is wrong, its attempts, its time, its events."""

import sys
from collections.abc import Sequence
from typing import Any

from attrs import asdict

from client import options
from client.config.environment import Environment
from client.records.attempt_logs import read_events
from client.records.reader import read_job
from client.views.job_json import job_object
from client.views.job_story import story, styled_lines
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.terminal import width_of, write_line
from client.views.time_accounting import attempt_times, job_time
from client.views.timeline import Event, timeline
from lifecycle.record.record_store import StoredRecord


def run(env: Environment, job: str, *, as_json: bool) -> int:
    """Print everything about *job*.

    Returns:
        0; 1 if the job's record cannot be read, which stderr explains.
    """
    found = read_job(env, job)
    if found.stored is None:
        complain(found.problem or found.job)
        return 1
    events = timeline(found.stored.record, read_events(env, job))
    if as_json:
        say(to_json(as_object(found.stored, events)))
        return 0
    for line in styled_lines(story(found.stored, events), width_of(sys.stdout)):
        write_line(line)
    return 0


def as_object(stored: StoredRecord, events: Sequence[Event]) -> dict[str, Any]:
    """Return the object that `--json` prints: that of `status --json`, with times and events."""
    spent = [
        {"epoch": one.attempt.epoch, **asdict(one.time), "redone_steps": one.redone_steps}
        for one in attempt_times(stored.record)
    ]
    return {
        **job_object(stored),
        "spent": asdict(job_time(stored.record)),
        "attempts_spent": spent,
        "events": list(events),
    }


@options.command(
    "show",
    ("holdfast show md-1", "Tell what a job did, what is wrong, and what to do."),
    ("holdfast show md-1 --json", "Print everything for a script, with times in UTC."),
)
@options.job_argument
@options.json_option
def command(*, job: str, as_json: bool) -> int:
    """Tell the story of one job.

    It shows the job's state, what is wrong and what to do, its attempts, where its time went, and its events in order.
    """
    return run(options.environment(), job, as_json=as_json)
