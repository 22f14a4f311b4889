"""Figures about a queue, a bucket and its jobs, as values of the exporter's metrics."""

from collections.abc import Callable
from datetime import datetime

from adapters.telemetry.metrics import Values, age_s
from client.config.composition import open_admins
from client.config.environment import Environment
from client.records.query import STATE_NAMES, Query
from client.records.record_index import RecordIndex
from lifecycle.job_record import JobRecord
from lifecycle.states import OWNED, WAITING


def queue_values(env: Environment) -> Values:
    """Count the messages in the queue.

    Raises:
        RetryableError: The queue cannot be reached.
        ConfigError: The queue or its credentials are wrong.
    """
    depth = env.queue.depth()
    kinds = {"available": depth.available, "in_flight": depth.in_flight, "delayed": depth.delayed}
    return {"holdfast_queue_messages": [((kind,), number) for kind, number in kinds.items()]}


def dead_letter_reader(env: Environment) -> Callable[[], Values]:
    """Return a function that counts the messages in the dead-letter queue; it returns no value if there is none."""
    from adapters.aws.admin import redrive_of

    queues, _ = open_admins(env.settings)

    def read() -> Values:
        redrive = redrive_of(queues.attributes(queues.url) or {})
        url = queues.url_of(redrive[0].rpartition(":")[2]) if redrive else None  # the last part of the ARN
        found = queues.attributes(url) if url else None
        return {"holdfast_dead_letters": [((), int(found["ApproximateNumberOfMessages"]))]} if found else {}

    return read


def bucket_values(env: Environment, index: RecordIndex) -> Values:
    """Refresh the index, and derive the figures about jobs from it.

    Raises:
        RetryableError: The bucket cannot be reached.
        ConfigError: The bucket or its credentials are wrong.
    """
    index.refresh()
    counts = dict.fromkeys(STATE_NAMES, 0) | {"unknown": 0} | index.count()
    waiting = index.jobs(Query(states=sorted(WAITING), sort="updated", reverse=True, limit=1))
    ages_s = [found.stored.age_s or 0.0 for found in waiting if found.stored]
    rejected = sum(1 for _ in env.store.list(env.layout.rejected))
    return {
        "holdfast_jobs": [((state,), number) for state, number in counts.items()],
        "holdfast_jobs_stale": _one(sum(index.count(Query(stale=True)).values())),
        "holdfast_jobs_waiting_age_seconds": _one(max(ages_s, default=0.0)),
        "holdfast_rejected_messages": _one(rejected),
        **_owned_values(env, index),
    }


def _owned_values(env: Environment, index: RecordIndex) -> Values:
    now = env.clock.now()
    lease_s = saved_s = backlog_s = 0.0
    saved_bytes = backlog_bytes = 0
    for found in index.jobs(Query(states=sorted(OWNED))):
        if found.stored is None:
            continue
        record = found.stored.record
        lease_s = max(lease_s, found.stored.age_s or 0.0)
        saved_s = max(saved_s, unsaved_s(record, now))
        saved_bytes += record.checkpoint.bytes if record.checkpoint else 0
        if record.backlog:
            backlog_bytes += record.backlog.bytes
            backlog_s = max(backlog_s, age_s(record.backlog.since, now))
    return {
        "holdfast_jobs_lease_age_seconds": _one(lease_s),
        "holdfast_jobs_checkpoint_age_seconds": _one(saved_s),
        "holdfast_jobs_checkpoint_bytes": _one(saved_bytes),
        "holdfast_jobs_backlog_bytes": _one(backlog_bytes),
        "holdfast_jobs_backlog_age_seconds": _one(backlog_s),
    }


def unsaved_s(record: JobRecord, now: datetime) -> float:
    """Return the seconds since the later of the last commit and the attempt's start: a paused job is not behind."""
    moments = [record.checkpoint.at if record.checkpoint else None]
    moments += [attempt.started for attempt in record.attempts[-1:]]
    return min((age_s(moment, now) for moment in moments if moment), default=0.0)


def _one(value: float) -> list[tuple[tuple[str, ...], float]]:
    return [((), value)]
