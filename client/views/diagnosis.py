"""Findings about a job that `show` prints: each problem with its remedy."""

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from client.records.estimates import is_stale
from client.views.job_json import saving_text, seconds_since
from client.views.text import format_duration, format_size
from lifecycle.job_record import JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import WAITING, State

LONG_WAIT_S: Final = 15 * 60.0
"""A job that has waited this long may have no message."""
LONG_BACKLOG_S: Final = 20 * 60.0
"""Two saving intervals, by default."""


@frozen
class Finding:
    """Something that is wrong with a job.

    Attributes:
        problem: What is wrong.
        remedy: What to do; empty if nothing.
    """

    problem: str
    remedy: str = ""


def diagnose(stored: StoredRecord) -> Iterator[Finding]:
    """Yield what is wrong with a job, worst first; nothing if all is well."""
    record = stored.record
    if is_stale(stored):
        yield _of_silence(stored)
    elif record.saving and record.saving.since:
        yield Finding(saving_text(record) or "")  # names its remedy
    if record.state is State.FAILED:
        yield Finding(_first_line(record.error), f"see `holdfast logs {record.job} --console`; {_reopening(record)}")
    elif record.error and not record.is_final:
        yield Finding(
            f"the last attempt ended with: {_first_line(record.error)}",
            f"it is tried again by itself; see `holdfast logs {record.job} --console`",
        )
    if record.result and record.result.problem:
        yield Finding(f"its outputs cannot be published: {record.result.problem}", f"`holdfast verify {record.job}`")
    yield from _of_waiting(stored)
    yield from _of_backlog(record)


def _of_silence(stored: StoredRecord) -> Finding:
    record = stored.record
    silent = format_duration(max((stored.age_s or 0.0) - record.lease_s, 0.0))
    saved = record.checkpoint
    start = f"from checkpoint {saved.seq}" if saved else "from the input, because nothing was saved"
    return Finding(
        f"{record.owner} has not been heard of since its lease ended {silent} ago: the node is probably gone",
        f"a worker that is free takes over {start}; if none does, start one, or run `holdfast reconcile`",
    )


def _of_waiting(stored: StoredRecord) -> Iterator[Finding]:
    if stored.record.state in WAITING and (stored.age_s or 0.0) > LONG_WAIT_S:
        yield Finding(
            f"no worker has taken it for {format_duration(stored.age_s)}",
            "start workers; if `holdfast queue` shows no message, `holdfast reconcile` sends it again",
        )


def _of_backlog(record: JobRecord) -> Iterator[Finding]:
    backlog = record.backlog
    age_s = seconds_since(backlog.since) if backlog else None
    if backlog and age_s is not None and age_s > LONG_BACKLOG_S:
        yield Finding(
            f"{format_size(backlog.bytes)} have been waiting for {format_duration(age_s)} to be saved in the bucket",
            f"see `holdfast logs {record.job}`; a longer STATE_SAVING_INTERVAL, or a higher UPLOAD_LIMIT",
        )


def _reopening(record: JobRecord) -> str:
    saved = record.checkpoint
    start = f"from checkpoint {saved.seq}" if saved else "from the input"
    return f"once it is fixed, `holdfast retry {record.job}` goes on {start}"


def _first_line(error: str | None) -> str:
    return (error or "it failed without a reason").partition("\n")[0]
