"""The story of one job for people: what it is doing, what is wrong, its attempts, where its time went, its events."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from client.records.attempt_logs import HEAD_FIELDS
from client.records.estimates import eta_s, is_stale, share_done
from client.views.diagnosis import diagnose
from client.views.job_json import saving_text, seconds_since
from client.views.json_text import to_json
from client.views.report_table import percentages
from client.views.request_costs import RequestPrices, attempt_requests, job_requests
from client.views.terminal import BOLD, PLAIN, RED, YELLOW, Span
from client.views.text import format_duration, format_size, local_time, printable
from client.views.time_accounting import LABELS, NODE_TIME, VANISHED, AttemptTime, attempt_times, job_time
from client.views.timeline import Event
from lifecycle.job_record import AttemptSummary, CheckpointRef, JobRecord
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import State

BAR: Final = 30  # characters
INDENT: Final = 14  # characters, of the names of facts
STYLES: Final = {"wrong": RED, "to do": YELLOW, "attempts": BOLD, "time": BOLD, "events": BOLD}
FEW: Final = 3  # checkpoints in a row that are shown one by one
SIZES: Final = frozenset({"bytes", "sent"})
OUTCOMES: Final[Mapping[str, str]] = {
    VANISHED: "its node vanished",
    "workload_failed": "the program failed",
    "timeout": "paused for its time limit",
    "drained": "its worker was stopped",
    "completed": "completed",
    "cancelled": "cancelled",
    "invalid": "the job is invalid",
    "deaths": "given up: too many nodes vanished",
    "wall_time": "stopped at its wall time",
    "node_unfit": "its node was unfit",
    "unreadable": "could not read what it needs",
    "uploads_hopeless": "could not upload",
}


def story(stored: StoredRecord, events: Sequence[Event]) -> Iterator[str]:
    """Yield the lines about a job."""
    yield from _facts(stored)
    for number, finding in enumerate(diagnose(stored)):
        yield from ([""] if number == 0 else [])
        yield f"{'wrong':<14}{finding.problem}"
        if finding.remedy:
            yield f"{'to do':<14}{finding.remedy}"
    yield ""
    yield from _attempts(stored)
    yield ""
    yield from _time(stored.record)
    yield ""
    yield from _events(events)


def styled_lines(lines: Iterable[str], width: int | None) -> Iterator[Sequence[Span]]:
    """Yield lines of the story with their styles; those wider than *width* (None: any width) as several lines."""
    for line in map(printable, lines):
        indent = " " * (len(line) - len(line.lstrip()) + 4 if line.startswith(" ") else INDENT)
        folded = textwrap.wrap(line, width, subsequent_indent=indent) if width and len(line) > width else [line]
        head, style = line[:INDENT], STYLES.get(line[:INDENT].split("  ")[0], PLAIN)
        yield [(folded[0][: len(head)], style), (folded[0][len(head) :], PLAIN)]
        yield from ([(rest, PLAIN)] for rest in folded[1:])


def started_from(attempt: AttemptSummary, *, had_checkpoint: bool = False) -> str:
    """Return where an attempt started, for people.

    Args:
        attempt: The attempt.
        had_checkpoint: Whether an earlier attempt had saved; records of older versions do not say more.
    """
    if attempt.resumed_from is not None:
        step = "" if attempt.resumed_step is None else f", step {attempt.resumed_step}"
        return f"from checkpoint {attempt.resumed_from}{step}"
    if attempt.resumed_step is not None:
        return f"from step {attempt.resumed_step}"
    return "from a checkpoint" if had_checkpoint and attempt.resumed_s is None else "from the input"


def _facts(stored: StoredRecord) -> Iterator[str]:
    record = stored.record
    facts = {
        "job": record.job,
        "workload": " ".join((record.workload, to_json(dict(record.params)) if record.params else "")).rstrip(),
        "labels": ", ".join(f"{name}={text}" for name, text in record.labels.items()),
        "state": _state(stored),
        "progress": _progress(stored),
        "checkpoint": _checkpoint(record.checkpoint),
        "saving": _saving(stored),
        "before that": _checkpoint(record.fallback),
        "furthest": _furthest(record),
        "given up": "; ".join(_checkpoint(suspect) for suspect in record.suspects),
        "not yet saved": _backlog(record),
        "result": _result(record),
        "interrupted": ", ".join(f"{count} x {cause}" for cause, count in record.interruptions.items()),
        "in a row": _counters(record),
        "failed on": ", ".join(record.failed_on.machines),
        "misfits": record.misfits.summary,
        "messages": f"{record.dispatch} sent" if record.dispatch else "",
        "calls": _calls(record),
        "submitted": _moment(record.timestamps.submitted),
        "finished": _moment(record.timestamps.finished),
        "archived": f"in {record.archived}" if record.archived else "",
        "error": _error(record),
    }
    yield from (f"{name:<14}{text}" for name, text in facts.items() if text)


def _state(stored: StoredRecord) -> str:
    record = stored.record
    owner = f" on {record.owner}" if record.owner else ""
    stale = f", stale: silent for {format_duration(stored.age_s)}" if is_stale(stored) else ""
    asked = ", to be cancelled at its owner's next heartbeat" if record.control.cancel and not record.is_final else ""
    written = "" if stale else f", last heard of {format_duration(stored.age_s)} ago" if owner else ""
    return f"{record.state}{owner}{stale}{written}{asked}"


def _progress(stored: StoredRecord) -> str:
    record, progress = stored.record, stored.record.progress
    if progress.done is None:
        return ""
    share, left = share_done(progress), None if is_stale(stored) else eta_s(record)
    parts = (
        f"{progress.done} of {progress.total or '?'} steps" + ("" if share is None else f", {share:.0%}"),
        f"{progress.rate:g} a second" if progress.rate is not None and record.owner and not is_stale(stored) else "",
        f"about {format_duration(left)} left" if left is not None else "",
    )
    return "; ".join(part for part in parts if part)


def _checkpoint(ref: CheckpointRef | None) -> str:
    if ref is None:
        return ""
    step = "" if ref.step is None else f" at step {ref.step}"
    age = seconds_since(ref.at)
    ago = "" if age is None else f", {format_duration(age)} ago"
    quality = f", {ref.quality}" if ref.quality else ""
    return f"{ref.seq}{step}{quality}{ago}; {format_size(ref.bytes)}, of which {format_size(ref.sent)} were sent"


def _furthest(record: JobRecord) -> str:
    """Return the high-water mark in words, if attempts failed to pass it."""
    mark = record.mark
    if not mark.failed_resumes and not mark.fell_back:
        return ""
    step = "" if mark.step is None else f"step {mark.step}, "
    resumes = f"; failed resumes {mark.failed_resumes}" if mark.failed_resumes else ""
    fallback = "; its fallback is used up" if mark.fell_back else ""
    return f"{step}{format_duration(mark.computed_s)} of computing{resumes}{fallback}"


def _saving(stored: StoredRecord) -> str:
    """Return what the owner reports about saving, unless that is among the findings or there is no live owner."""
    saving = stored.record.saving
    return "" if is_stale(stored) or (saving and saving.since) else saving_text(stored.record) or ""


def _backlog(record: JobRecord) -> str:
    backlog = record.backlog
    if backlog is None:
        return ""
    return f"{format_size(backlog.bytes)}, waiting for {format_duration(seconds_since(backlog.since))}"


def _result(record: JobRecord) -> str:
    result = record.result
    if result is None:
        return ""
    fetch = f"; `holdfast download DIR {record.job}`" if result.published else ""
    return f"{result.files} files, {format_size(result.bytes)}{fetch}"


def _error(record: JobRecord) -> str:
    """Return the error, unless the findings show all of it."""
    error = record.error or ""
    is_found = record.state is State.FAILED or not record.is_final
    return "" if is_found and "\n" not in error else error.replace("\n", " | ")


def _counters(record: JobRecord) -> str:
    counts = ((record.failures, "failure"), (record.deaths, "lost attempt"))
    return ", ".join(_count(count, name) for count, name in counts if count)


def _moment(at: str | None) -> str:
    age = seconds_since(at)
    return "" if age is None else f"{local_time(at)}, {format_duration(age)} ago"


def _calls(record: JobRecord) -> str:
    made = sum((attempt_requests(record, one) for one in attempt_times(record)), job_requests(record))
    return (
        f"about {made.queue:.0f} to the queue, {made.write:.0f} that write or list and {made.read:.0f} that read:"
        f" ${made.cost(RequestPrices()):.6f} at list prices"
    )


def _attempts(stored: StoredRecord) -> Iterator[str]:
    yield "attempts"
    record = stored.record
    had_checkpoint = False
    for one in attempt_times(record):
        is_newest = one.attempt is record.attempts[-1]
        yield from _attempt(one, stored, is_newest=is_newest, had_checkpoint=had_checkpoint)
        had_checkpoint = had_checkpoint or bool(one.attempt.commits)
    if not record.attempts:
        yield "  none yet"


def _attempt(one: AttemptTime, stored: StoredRecord, *, is_newest: bool, had_checkpoint: bool) -> Iterator[str]:
    attempt, time = one.attempt, one.time
    kind = f" ({attempt.kind})" if attempt.kind else ""
    yield f"  e{attempt.epoch}  {local_time(attempt.started)}  {attempt.node}{kind}: {_outcome(attempt, stored)}"
    steps = f"{attempt.steps} steps in " if attempt.steps else ""
    yield (
        f"      {started_from(attempt, had_checkpoint=had_checkpoint)};"
        f" {steps}{format_duration(attempt.useful_s)}, {_count(attempt.commits, 'checkpoint')}"
    )
    if time.redo:
        steps = f" ({one.redone_steps} steps)" if one.redone_steps else ""
        again = "" if is_newest else " and had to be repeated"
        yield f"      {format_duration(time.redo)} of work{steps} was lost{again}"
    if time.node_loss:
        yield f"      {format_duration(time.node_loss)} until another node took over"


def _outcome(attempt: AttemptSummary, stored: StoredRecord) -> str:
    if attempt.outcome is not None:
        return OUTCOMES.get(attempt.outcome, attempt.outcome)
    if attempt.epoch != stored.record.epoch or stored.record.owner is None:
        return "its end was never reported"
    return "not heard of any more" if is_stale(stored) else "runs"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" + ("" if number == 1 else "s")


def _time(record: JobRecord) -> Iterator[str]:
    """Yield where the time of nodes went, in parts of 100 %, and how long the job waited."""
    time = job_time(record)
    yield f"{'time':<12}{format_duration(time.owned):>10}  of nodes"
    shares = percentages([getattr(time, cause) for cause in NODE_TIME])
    for cause, share in zip(NODE_TIME, shares, strict=True):
        seconds: float = getattr(time, cause)
        if seconds:
            bar = "#" * round(BAR * seconds / time.owned)
            yield f"  {LABELS[cause]:<10}{format_duration(seconds):>10}  {share:>6}  {bar}".rstrip()
    for cause in ("node_loss", "idle"):
        seconds = getattr(time, cause)
        if seconds:
            yield f"{LABELS[cause]:<12}{format_duration(seconds):>10}"


def _events(events: Sequence[Event]) -> Iterator[str]:
    yield "events"
    for (epoch, name), group in groupby(events, lambda event: (event.get("epoch"), event.get("event"))):
        found = list(group)
        if name == "checkpoint" and len(found) > FEW:
            yield f"  {_at(found[0])}  e{epoch}  {len(found) - 1} checkpoints"
            found = found[-1:]
        yield from map(_event, found)


def _event(event: Event) -> str:
    node = f"  {event['node']}" if event.get("node") else ""
    facts = "  ".join(_facts_of(event.items()))
    return f"  {_at(event)}  e{event.get('epoch')}{node}  {event.get('event')}  {facts}".rstrip()


def _at(event: Event) -> str:
    return local_time(str(event.get("at") or ""))


def _facts_of(items: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield an event's facts with sizes, durations and times for people."""
    for name, value in items:
        if name in HEAD_FIELDS or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            shown = str(value)
        elif name in SIZES and isinstance(value, int):
            shown = format_size(value)
        elif name.endswith("_s") and not isinstance(value, str):
            yield f"{name.removesuffix('_s')}={format_duration(value)}"
            continue
        else:
            shown = local_time(value) if name == "last_sign_of_life" and isinstance(value, str) else str(value)
        yield f"{name}={shown}"
