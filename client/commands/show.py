"""`holdfast show JOB`: all about one job: where it stands, its attempts, where its time went, and what happened."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import asdict

from client.commands.logs import events
from client.commands.status import as_object, duration, is_stale, printable
from client.commands.storage import human
from client.config.composition import Environment
from client.records.reader import read_one
from client.views.request_costs import Prices, of_attempt, of_job
from client.views.time_accounting import CAUSES, TimeEntry, account, entries
from client.views.timeline import timeline
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.record.record_store import StoredRecord


def run(env: Environment, job: str, *, as_json: bool) -> int:
    """Print it.

    Returns:
        0; 1 if the job's record cannot be read, which stderr says.
    """
    found = read_one(env, job)
    if found.stored is None:
        print(f"holdfast: {found.problem}", file=sys.stderr)
        return 1
    told = timeline(found.stored.record, events(env, job))
    if as_json:
        print(json.dumps(as_json_object(found.stored, told)))
        return 0
    for line in lines(found.stored, told):
        print(printable(line))
    return 0


def as_json_object(stored: StoredRecord, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `--json` gives: what `status --json` does, and where the time went, and every event."""
    spent = [
        {"epoch": entry.attempt.epoch, **asdict(entry.spent), "redone_steps": entry.redone_steps}
        for entry in entries(stored.record)
    ]
    return {**as_object(stored), "spent": asdict(account(stored.record)), "attempts_spent": spent, "events": told}


def lines(stored: StoredRecord, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    """For people."""
    yield from _facts(stored)
    yield ""
    yield from _attempts(list(entries(stored.record)))
    yield ""
    yield from _spent(stored)
    yield ""
    yield from _happened(told)


def _facts(stored: StoredRecord) -> Iterator[str]:
    record, progress = stored.record, stored.record.progress
    stamps = ((name, at) for name, at in asdict(record.timestamps).items() if at)
    counters = f"failures in a row {record.failures}, deaths in a row {record.deaths}"
    facts = {
        "job": record.job,
        "workload": f"{record.workload} {json.dumps(dict(record.params))}",
        "labels": ", ".join(f"{name}={text}" for name, text in record.labels.items()),
        "state": f"{record.state}{' (stale)' if is_stale(stored) else ''}, written {duration(stored.age_s)} ago",
        "owner": f"{record.owner}, lease of {duration(record.lease_s)}" if record.owner else "",
        "progress": "" if progress.done is None else f"{progress.done} of {progress.total or '?'}",
        "checkpoint": _checkpoint(record.checkpoint),
        "fallback": _checkpoint(record.fallback),
        "result": f"{record.result.files} files, {human(record.result.bytes)}" if record.result else "",
        "interruptions": ", ".join(f"{count} x {cause}" for cause, count in record.interruptions.items()),
        "messages": f"{record.dispatch} sent; {counters}",
        "calls": _calls(record),
        "times": ", ".join(f"{name} {at}" for name, at in stamps),
        "archived": f"in {record.archived}" if record.archived else "",
        "error": (record.error or "").replace("\n", " | "),
    }
    yield from (f"{name:<14}{text}" for name, text in facts.items() if text)


def _calls(record: JobRecord) -> str:
    made = sum((of_attempt(record, entry) for entry in entries(record)), of_job(record))
    return (
        f"about {made.queue:.0f} to the queue, {made.write:.0f} that write or list and {made.read:.0f} that read in the"
        f" bucket: ${made.cost(Prices()):.6f} at list prices"
    )


def _checkpoint(ref: CheckpointRef | None) -> str:
    if ref is None:
        return ""
    step = "" if ref.step is None else f", step {ref.step}"
    return f"#{ref.seq}{step}, {human(ref.bytes)}, of which {human(ref.sent)} sent, at {ref.at}"


def _attempts(found: Sequence[TimeEntry]) -> Iterator[str]:
    yield "attempts"
    for entry in found:
        attempt, spent = entry.attempt, entry.spent
        begun = "from the input" if attempt.resumed_step is None else f"from step {attempt.resumed_step}"
        kind = f" ({attempt.kind})" if attempt.kind else ""
        redone = f", {entry.redone_steps} of them to be done again" if entry.redone_steps else ""
        yield (
            f"  e{attempt.epoch}  {attempt.started}  {attempt.node}{kind}  {attempt.outcome or 'running'}: {begun},"
            f" {attempt.steps} steps in {duration(attempt.useful_s)}{redone}, {attempt.commits} checkpoints"
            + (f"; then {duration(spent.node_loss)} until another took over" if spent.node_loss else "")
        )


def _spent(stored: StoredRecord) -> Iterator[str]:
    spent = account(stored.record)
    yield "time"
    for name in CAUSES:
        seconds = getattr(spent, name)
        if seconds:
            yield f"  {name.replace('_', ' '):<10} {duration(seconds):>10}  {seconds / spent.total:6.1%}"


def _happened(told: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "what happened"
    for event in told:
        known = {"at", "epoch", "node", "event"}
        node = f"  {event['node']}" if event.get("node") else ""
        facts = "  ".join(f"{name}={value}" for name, value in event.items() if name not in known and value is not None)
        yield f"  {event.get('at')}  e{event.get('epoch')}{node}  {event.get('event')}  {facts}".rstrip()
