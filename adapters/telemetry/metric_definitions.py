"""What is measured: every metric of the worker's endpoint and of `holdfast exporter`, in one table each.

docs/metrics.md is compared with these, and so are the dashboard and the alert rules in deploy/.
"""

from typing import Final

from attrs import frozen


@frozen
class Measure:
    """A metric: its name as it is scraped, its type as Prometheus has them, what it means, and its labels."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


WORKER: Final = (
    Measure("holdfast_build_info", "gauge", "1; the version of Holdfast and the node's name", ("version", "node")),
    Measure(
        "holdfast_transitions_total",
        "counter",
        "Edges of the state diagram that this worker's attempts followed",
        ("source", "trigger", "destination"),
    ),
    Measure(
        "holdfast_attempts_total",
        "counter",
        "Attempts that are over, by the state they left; unrecorded if nobody knows whether it was written",
        ("outcome",),
    ),
    Measure("holdfast_attempt_events_total", "counter", "Lines of the attempts' logs, by event", ("event",)),
    Measure("holdfast_record_writes_total", "counter", "Writes of a record that landed: beats, commits, ends"),
    Measure("holdfast_retries_total", "counter", "Calls that were made again, by call and error", ("call", "error")),
    Measure("holdfast_checkpoints_total", "counter", "Checkpoints committed"),
    Measure("holdfast_checkpoint_sent_bytes_total", "counter", "Bytes uploaded for committed checkpoints"),
    Measure("holdfast_checkpoint_seconds", "histogram", "Time from a snapshot to its commit"),
    Measure(
        "holdfast_attempt_info",
        "gauge",
        "1 while an attempt runs, with its job; gone when it ends",
        ("job", "epoch", "workload"),
    ),
    Measure("holdfast_attempt_state", "gauge", "1 for the state that the current attempt is in", ("state",)),
    Measure("holdfast_attempt_lease_seconds", "gauge", "How long the lease of the current attempt lasts"),
    Measure(
        "holdfast_attempt_lease_age_seconds", "gauge", "Time since the record was last written: since the last beat"
    ),
    Measure(
        "holdfast_attempt_checkpoint_age_seconds",
        "gauge",
        "Time since the last commit or, before the first, since the workload started: what a dead node would cost",
    ),
    Measure("holdfast_attempt_checkpoint_bytes", "gauge", "Size of the files of the last committed checkpoint"),
    Measure("holdfast_attempt_backlog_bytes", "gauge", "Size of what is saved on the node and not in the bucket"),
    Measure("holdfast_attempt_backlog_age_seconds", "gauge", "For how long there has been a backlog"),
    Measure("holdfast_attempt_steps_done", "gauge", "Steps done, where the workload says"),
    Measure("holdfast_attempt_steps", "gauge", "Steps in all, where the workload says"),
)

EXPORTER: Final = (
    Measure("holdfast_exporter_up", "gauge", "1 if the source could be read last time, else 0", ("source",)),
    Measure("holdfast_exporter_age_seconds", "gauge", "How old what is shown of the source is", ("source",)),
    Measure("holdfast_exporter_failures_total", "counter", "Times that the source could not be read", ("source",)),
    Measure("holdfast_exporter_refresh_seconds", "gauge", "How long the last reading of the source took", ("source",)),
    Measure(
        "holdfast_queue_messages",
        "gauge",
        "Messages in the queue, approximately: available, in_flight, delayed",
        ("kind",),
    ),
    Measure("holdfast_dead_letters", "gauge", "Messages in the dead-letter queue, if there is one"),
    Measure("holdfast_rejected_messages", "gauge", "Messages that were no jobs, kept under .holdfast/rejected/"),
    Measure("holdfast_jobs", "gauge", "Jobs in each state; unknown for records that cannot be read", ("state",)),
    Measure("holdfast_jobs_stale", "gauge", "Jobs whose owner's lease ran out, and nobody took over yet"),
    Measure(
        "holdfast_jobs_waiting_age_seconds",
        "gauge",
        "For how long the job that waits longest has waited: queued, paused or released; 0 if none waits",
    ),
    Measure("holdfast_jobs_lease_age_seconds", "gauge", "Time since the last write of the owned record that is oldest"),
    Measure(
        "holdfast_jobs_checkpoint_age_seconds",
        "gauge",
        "Of the owned jobs, the longest time since a commit or the attempt's start, by the nodes' clocks",
    ),
    Measure("holdfast_jobs_checkpoint_bytes", "gauge", "Size of the files of the owned jobs' last checkpoints, in all"),
    Measure("holdfast_jobs_backlog_bytes", "gauge", "Size of what owned jobs have saved and not committed, in all"),
    Measure("holdfast_jobs_backlog_age_seconds", "gauge", "Age of the oldest of these backlogs, by the nodes' clocks"),
    Measure("holdfast_retries_total", "counter", "Calls that were made again, by call and error", ("call", "error")),
)
