"""A job's record in the form that `--json` prints."""

from datetime import UTC, datetime
from typing import Any

from attrs import asdict

from client.records.estimates import eta_s, is_stale
from client.views.text import format_duration
from lifecycle.job_record import Backlog, CheckpointRef, JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED


def job_object(stored: StoredRecord) -> dict[str, Any]:
    """Return a record as a JSON object. Fields are only ever added, never renamed or removed."""
    record = stored.record
    return {
        "job": record.job,
        "state": record.state,
        "epoch": record.epoch,
        "owner": record.owner,
        "progress": asdict(record.progress),
        "eta_s": eta_s(record),
        "labels": dict(record.labels),
        "checkpoint": _checkpoint(record.checkpoint),
        "mark": asdict(record.mark),
        "suspects": [suspect.seq for suspect in record.suspects],
        "backlog": _backlog(record.backlog),
        "saving": saving_text(record),
        "ran_s": record.ran_s,
        "failures": record.failures,
        "failed_on": list(record.failed_on.machines),
        "misfits": [asdict(misfit) for misfit in record.misfits.seen],
        "deaths": record.deaths,
        "interruptions": dict(record.interruptions),
        "result": asdict(record.result) if record.result else None,
        "error": record.error,
        "workload": record.workload,
        "params": dict(record.params),
        "dispatch": record.dispatch,
        "stale": is_stale(stored),
        "cancel_asked": record.control.cancel,
        "attempts": [asdict(attempt) for attempt in record.attempts],
        "timestamps": asdict(record.timestamps),
        "archived": record.archived,
    }


def saving_text(record: JobRecord) -> str | None:
    """Return whether the job's work is being saved, and if not, why and what to do; None if no attempt owns the job.

    It is what the owner reported with its last heartbeat.
    """
    if record.state not in OWNED:
        return None
    if record.saving is None:
        return "ok"
    if record.saving.since is None:
        return record.saving.problem
    return f"no checkpoint for {format_duration(seconds_since(record.saving.since))}: {record.saving.problem}"


def seconds_since(at: str | None) -> float | None:
    """Return the seconds since *at*, as far as this machine's clock and the node's agree; None if *at* is no time."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(at or "")
    except (ValueError, TypeError):
        return None
    return max(round(age.total_seconds(), 1), 0.0)


def _checkpoint(ref: CheckpointRef | None) -> dict[str, Any] | None:
    if ref is None:
        return None
    return {
        "seq": ref.seq,
        "step": ref.step,
        "age_s": seconds_since(ref.at),
        "bytes": ref.bytes,
        "sent": ref.sent,
        "quality": ref.quality,
        "computed_s": ref.computed_s,
    }


def _backlog(backlog: Backlog | None) -> dict[str, Any] | None:
    return {"bytes": backlog.bytes, "age_s": seconds_since(backlog.since)} if backlog else None
