"""Definitions of all metrics: of the worker's endpoint, and of `holdfast exporter`.

Tests compare docs/metrics.md, and the dashboard and alert rules in deploy/, with these tables.
"""

from typing import Final

from attrs import frozen


@frozen
class MetricDefinition:
    """A metric: its name as scraped, its Prometheus type, its help text and its labels."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


WORKER: Final = (
    MetricDefinition(
        "holdfast_build_info",
        "gauge",
        "Always 1; the labels give the version of Holdfast and the node's name",
        ("version", "node"),
    ),
    MetricDefinition(
        "holdfast_transitions_total",
        "counter",
        "Transitions of the state diagram made by this worker's attempts",
        ("source", "trigger", "destination"),
    ),
    MetricDefinition(
        "holdfast_attempts_total",
        "counter",
        "Finished attempts, by the state in which they left the job; unrecorded if the final write may not have landed",
        ("outcome",),
    ),
    MetricDefinition(
        "holdfast_attempt_events_total", "counter", "Events in the attempts' event logs, by event", ("event",)
    ),
    MetricDefinition(
        "holdfast_record_writes_total", "counter", "Successful writes of a record: heartbeats, commits and final writes"
    ),
    MetricDefinition(
        "holdfast_retries_total", "counter", "Calls that were retried, by call and error", ("call", "error")
    ),
    MetricDefinition("holdfast_checkpoints_total", "counter", "Checkpoints committed"),
    MetricDefinition("holdfast_checkpoint_sent_bytes_total", "counter", "Bytes uploaded for committed checkpoints"),
    MetricDefinition("holdfast_checkpoint_seconds", "histogram", "Time from a snapshot to its commit"),
    MetricDefinition(
        "holdfast_attempt_info",
        "gauge",
        "1 while an attempt runs, with its job in the labels; absent otherwise",
        ("job", "epoch", "workload"),
    ),
    MetricDefinition(
        "holdfast_attempt_state",
        "gauge",
        "1 for the state that the current attempt is in, 0 for the others",
        ("state",),
    ),
    MetricDefinition("holdfast_attempt_lease_seconds", "gauge", "Duration of the current attempt's lease"),
    MetricDefinition(
        "holdfast_attempt_lease_age_seconds", "gauge", "Time since the record was last written, normally by a heartbeat"
    ),
    MetricDefinition(
        "holdfast_attempt_checkpoint_age_seconds",
        "gauge",
        "Time since the last commit or, before the first, since the workload started: work that would be lost",
    ),
    MetricDefinition(
        "holdfast_attempt_checkpoint_bytes", "gauge", "Size of the files of the last committed checkpoint"
    ),
    MetricDefinition(
        "holdfast_attempt_backlog_bytes",
        "gauge",
        "Size of the snapshot that is saved on the node but not yet committed",
    ),
    MetricDefinition("holdfast_attempt_backlog_age_seconds", "gauge", "Time for which there has been a backlog"),
    MetricDefinition("holdfast_attempt_steps_done", "gauge", "Steps done, if the workload reports them"),
    MetricDefinition("holdfast_attempt_steps", "gauge", "Total number of steps, if the workload reports it"),
)

EXPORTER: Final = (
    MetricDefinition(
        "holdfast_exporter_up", "gauge", "1 if the last read of the source succeeded, else 0", ("source",)
    ),
    MetricDefinition("holdfast_exporter_age_seconds", "gauge", "Age of the values shown for the source", ("source",)),
    MetricDefinition("holdfast_exporter_failures_total", "counter", "Failed reads of the source", ("source",)),
    MetricDefinition(
        "holdfast_exporter_refresh_seconds", "gauge", "Duration of the last read of the source", ("source",)
    ),
    MetricDefinition(
        "holdfast_queue_messages",
        "gauge",
        "Approximate number of messages in the queue: available, in_flight or delayed",
        ("kind",),
    ),
    MetricDefinition("holdfast_dead_letters", "gauge", "Messages in the dead-letter queue, if there is one"),
    MetricDefinition(
        "holdfast_rejected_messages", "gauge", "Messages that were not jobs, kept under .holdfast/rejected/"
    ),
    MetricDefinition("holdfast_jobs", "gauge", "Jobs in each state; unknown for unreadable records", ("state",)),
    MetricDefinition(
        "holdfast_jobs_stale", "gauge", "Jobs whose owner's lease has expired and that no worker has taken over yet"
    ),
    MetricDefinition(
        "holdfast_jobs_waiting_age_seconds",
        "gauge",
        "Longest time for which a job has been waiting (queued, paused or released); 0 if none waits",
    ),
    MetricDefinition(
        "holdfast_jobs_lease_age_seconds", "gauge", "Longest time since the record of an owned job was written"
    ),
    MetricDefinition(
        "holdfast_jobs_checkpoint_age_seconds",
        "gauge",
        "Longest time since an owned job's last commit or the attempt's start, by the nodes' clocks",
    ),
    MetricDefinition(
        "holdfast_jobs_checkpoint_bytes", "gauge", "Total size of the files of the owned jobs' last checkpoints"
    ),
    MetricDefinition(
        "holdfast_jobs_backlog_bytes",
        "gauge",
        "Total size of the owned jobs' snapshots that are saved but not yet committed",
    ),
    MetricDefinition(
        "holdfast_jobs_backlog_age_seconds", "gauge", "Age of the oldest of these backlogs, by the nodes' clocks"
    ),
    MetricDefinition(
        "holdfast_retries_total", "counter", "Calls that were retried, by call and error", ("call", "error")
    ),
)
