"""What is measured: every metric of the worker's endpoint and of `holdfast exporter`, in one table each.

docs/metrics.md is compared with these, and so are the dashboard and the alert rules in deploy/.
"""

from typing import Final

from attrs import frozen


@frozen
class MetricDefinition:
    """A metric: its name as it is scraped, its type as Prometheus has them, what it means, and its labels."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


WORKER: Final = (
    MetricDefinition(
        "holdfast_build_info", "gauge", "1; the version of Holdfast and the node's name", ("version", "node")
    ),
    MetricDefinition(
        "holdfast_transitions_total",
        "counter",
        "Edges of the state diagram that this worker's attempts followed",
        ("source", "trigger", "destination"),
    ),
    MetricDefinition(
        "holdfast_attempts_total",
        "counter",
        "Attempts that are over, by the state they left; unrecorded if nobody knows whether it was written",
        ("outcome",),
    ),
    MetricDefinition("holdfast_attempt_events_total", "counter", "Lines of the attempts' logs, by event", ("event",)),
    MetricDefinition("holdfast_record_writes_total", "counter", "Writes of a record that landed: beats, commits, ends"),
    MetricDefinition(
        "holdfast_retries_total", "counter", "Calls that were made again, by call and error", ("call", "error")
    ),
    MetricDefinition("holdfast_checkpoints_total", "counter", "Checkpoints committed"),
    MetricDefinition("holdfast_checkpoint_sent_bytes_total", "counter", "Bytes uploaded for committed checkpoints"),
    MetricDefinition("holdfast_checkpoint_seconds", "histogram", "Time from a snapshot to its commit"),
    MetricDefinition(
        "holdfast_attempt_info",
        "gauge",
        "1 while an attempt runs, with its job; gone when it ends",
        ("job", "epoch", "workload"),
    ),
    MetricDefinition("holdfast_attempt_state", "gauge", "1 for the state that the current attempt is in", ("state",)),
    MetricDefinition("holdfast_attempt_lease_seconds", "gauge", "How long the lease of the current attempt lasts"),
    MetricDefinition(
        "holdfast_attempt_lease_age_seconds", "gauge", "Time since the record was last written: since the last beat"
    ),
    MetricDefinition(
        "holdfast_attempt_checkpoint_age_seconds",
        "gauge",
        "Time since the last commit or, before the first, since the workload started: what a dead node would cost",
    ),
    MetricDefinition(
        "holdfast_attempt_checkpoint_bytes", "gauge", "Size of the files of the last committed checkpoint"
    ),
    MetricDefinition(
        "holdfast_attempt_backlog_bytes", "gauge", "Size of what is saved on the node and not in the bucket"
    ),
    MetricDefinition("holdfast_attempt_backlog_age_seconds", "gauge", "For how long there has been a backlog"),
    MetricDefinition("holdfast_attempt_steps_done", "gauge", "Steps done, where the workload says"),
    MetricDefinition("holdfast_attempt_steps", "gauge", "Steps in all, where the workload says"),
)

EXPORTER: Final = (
    MetricDefinition("holdfast_exporter_up", "gauge", "1 if the source could be read last time, else 0", ("source",)),
    MetricDefinition("holdfast_exporter_age_seconds", "gauge", "How old what is shown of the source is", ("source",)),
    MetricDefinition(
        "holdfast_exporter_failures_total", "counter", "Times that the source could not be read", ("source",)
    ),
    MetricDefinition(
        "holdfast_exporter_refresh_seconds", "gauge", "How long the last reading of the source took", ("source",)
    ),
    MetricDefinition(
        "holdfast_queue_messages",
        "gauge",
        "Messages in the queue, approximately: available, in_flight, delayed",
        ("kind",),
    ),
    MetricDefinition("holdfast_dead_letters", "gauge", "Messages in the dead-letter queue, if there is one"),
    MetricDefinition(
        "holdfast_rejected_messages", "gauge", "Messages that were no jobs, kept under .holdfast/rejected/"
    ),
    MetricDefinition(
        "holdfast_jobs", "gauge", "Jobs in each state; unknown for records that cannot be read", ("state",)
    ),
    MetricDefinition("holdfast_jobs_stale", "gauge", "Jobs whose owner's lease ran out, and nobody took over yet"),
    MetricDefinition(
        "holdfast_jobs_waiting_age_seconds",
        "gauge",
        "For how long the job that waits longest has waited: queued, paused or released; 0 if none waits",
    ),
    MetricDefinition(
        "holdfast_jobs_lease_age_seconds", "gauge", "Time since the last write of the owned record that is oldest"
    ),
    MetricDefinition(
        "holdfast_jobs_checkpoint_age_seconds",
        "gauge",
        "Of the owned jobs, the longest time since a commit or the attempt's start, by the nodes' clocks",
    ),
    MetricDefinition(
        "holdfast_jobs_checkpoint_bytes", "gauge", "Size of the files of the owned jobs' last checkpoints, in all"
    ),
    MetricDefinition(
        "holdfast_jobs_backlog_bytes", "gauge", "Size of what owned jobs have saved and not committed, in all"
    ),
    MetricDefinition(
        "holdfast_jobs_backlog_age_seconds", "gauge", "Age of the oldest of these backlogs, by the nodes' clocks"
    ),
    MetricDefinition(
        "holdfast_retries_total", "counter", "Calls that were made again, by call and error", ("call", "error")
    ),
)
