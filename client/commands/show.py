"""`holdfast show JOB`: show one job: its state, its attempts, where its time went, and all events in order."""

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import asdict

from client.config.environment import Environment
from client.records.attempt_logs import HEAD_FIELDS, read_events
from client.records.estimates import is_stale
from client.records.reader import read_job
from client.views.job_json import job_object, saving_text
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.request_costs import RequestPrices, attempt_requests, job_requests
from client.views.text import format_duration, format_size
from client.views.time_accounting import CAUSES, AttemptTime, attempt_times, job_time
from client.views.timeline import Event, timeline
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord
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
    for line in lines(found.stored, events):
        say(line)
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


def lines(stored: StoredRecord, events: Sequence[Event]) -> Iterator[str]:
    """Yield the lines for people."""
    yield from _facts(stored)
    yield ""
    yield from _attempts(list(attempt_times(stored.record)))
    yield ""
    yield from _time(stored)
    yield ""
    yield from _events(events)


def _written(age_s: float | None) -> str:
    return "written at an unknown time" if age_s is None else f"written {format_duration(age_s)} ago"


def _facts(stored: StoredRecord) -> Iterator[str]:
    record, progress = stored.record, stored.record.progress
    stamps = ((name, at) for name, at in asdict(record.timestamps).items() if at)
    counters = f"consecutive failures {record.failures}, consecutive lost attempts {record.deaths}"
    stale = " (stale)" if is_stale(stored) else ""
    facts = {
        "job": record.job,
        "workload": f"{record.workload} {to_json(dict(record.params))}",
        "labels": ", ".join(f"{name}={text}" for name, text in record.labels.items()),
        "state": f"{record.state}{stale}, {_written(stored.age_s)}",
        "owner": f"{record.owner}, lease of {format_duration(record.lease_s)}" if record.owner else "",
        "progress": "" if progress.done is None else f"{progress.done} of {progress.total or '?'}",
        "checkpoint": _checkpoint(record.checkpoint),
        "saving": saving_text(record) or "",
        "fallback": _checkpoint(record.fallback),
        "furthest": _furthest(record),
        "suspects": "; ".join(_checkpoint(suspect) for suspect in record.suspects),
        "result": f"{record.result.files} files, {format_size(record.result.bytes)}" if record.result else "",
        "interruptions": ", ".join(f"{count} x {cause}" for cause, count in record.interruptions.items()),
        "failed on": ", ".join(record.failed_on.machines),
        "misfits": record.misfits.summary,
        "messages": f"{record.dispatch} sent; {counters}",
        "calls": _calls(record),
        "times": ", ".join(f"{name} {at}" for name, at in stamps),
        "archived": f"in {record.archived}" if record.archived else "",
        "error": (record.error or "").replace("\n", " | "),
    }
    yield from (f"{name:<14}{text}" for name, text in facts.items() if text)


def _furthest(record: JobRecord) -> str:
    """Return the high-water mark in words, with what became of attempts to pass it; empty before the first commit."""
    mark = record.mark
    if not mark.seq:
        return ""
    step = "" if mark.step is None else f"step {mark.step}, "
    resumes = f"; failed resumes {mark.failed_resumes}" if mark.failed_resumes else ""
    fallback = "; its fallback is used up" if mark.fell_back else ""
    return f"{step}{format_duration(mark.computed_s)} of computing{resumes}{fallback}"


def _calls(record: JobRecord) -> str:
    made = sum((attempt_requests(record, one) for one in attempt_times(record)), job_requests(record))
    return (
        f"about {made.queue:.0f} to the queue, {made.write:.0f} that write or list and {made.read:.0f} that read in the"
        f" bucket: ${made.cost(RequestPrices()):.6f} at list prices"
    )


def _checkpoint(ref: CheckpointRef | None) -> str:
    if ref is None:
        return ""
    step = "" if ref.step is None else f", step {ref.step}"
    quality = f", {ref.quality}" if ref.quality else ""
    return f"#{ref.seq}{step}{quality}, {format_size(ref.bytes)}, of which {format_size(ref.sent)} sent, at {ref.at}"


def _attempts(found: Sequence[AttemptTime]) -> Iterator[str]:
    yield "attempts"
    for one in found:
        attempt, time = one.attempt, one.time
        start = _start(attempt)
        kind = f" ({attempt.kind})" if attempt.kind else ""
        redone = f", {one.redone_steps} of them to be repeated" if one.redone_steps else ""
        yield (
            f"  e{attempt.epoch}  {attempt.started}  {attempt.node}{kind}  {attempt.outcome or 'running'}: {start},"
            f" {attempt.steps} steps in {format_duration(attempt.useful_s)}{redone}, {attempt.commits} checkpoints"
            + (f"; then {format_duration(time.node_loss)} until another node took over" if time.node_loss else "")
        )


def _start(attempt: AttemptSummary) -> str:
    if attempt.resumed_step is not None:
        return f"from step {attempt.resumed_step}"
    return "from the input" if attempt.resumed_from is None else f"from checkpoint {attempt.resumed_from}"


def _time(stored: StoredRecord) -> Iterator[str]:
    time = job_time(stored.record)
    yield "time"
    for cause in CAUSES:
        seconds = getattr(time, cause)
        if seconds:
            yield f"  {cause.replace('_', ' '):<10} {format_duration(seconds):>10}  {seconds / time.total:6.1%}"


def _events(events: Sequence[Event]) -> Iterator[str]:
    yield "events"
    for event in events:
        node = f"  {event['node']}" if event.get("node") else ""
        facts = "  ".join(
            f"{name}={value}" for name, value in event.items() if name not in HEAD_FIELDS and value is not None
        )
        yield f"  {event.get('at')}  e{event.get('epoch')}{node}  {event.get('event')}  {facts}".rstrip()
