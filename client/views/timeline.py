"""A job's timeline: the events that its attempts logged, and those that only the record shows.

A node that vanished logs nothing about it, and neither do a submit and an operator's actions; the record shows them.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from client.views.time_accounting import VANISHED
from lifecycle.job_record import AttemptSummary, JobRecord, iso
from lifecycle.states import State

Event = dict[str, Any]
"""`{"at", "epoch", "node", "event", …}`, as in an attempt's event log."""


def timeline(record: JobRecord, logged: Iterable[Event]) -> list[Event]:
    """Return the *logged* events and those in the record, by time, as far as the nodes' clocks agree."""
    events = [*logged, *_from_record(record)]
    return sorted(events, key=lambda event: str(event.get("at") or ""))


def _from_record(record: JobRecord) -> Iterator[Event]:
    stamps = record.timestamps
    if stamps.submitted:
        yield _event(stamps.submitted, 0, None, "queued")
    for attempt, following in zip_longest(record.attempts, record.attempts[1:]):
        if attempt.outcome == VANISHED:
            facts = {"last_sign_of_life": _last_sign(attempt), "steps": attempt.steps, "useful_s": attempt.useful_s}
            if following:
                yield _event(following.started, attempt.epoch, attempt.node, "node_lost", **facts)
        elif following and following.epoch > attempt.epoch + 1:
            yield _event(
                following.started, following.epoch, None, "opened_again", why="an operator's retry, before this"
            )
    last = record.attempts[-1].epoch if record.attempts else 0
    if record.epoch > last and stamps.updated:
        name = "cancelled" if record.state is State.CANCELLED else "queued"
        yield _event(stamps.finished or stamps.updated, record.epoch, None, name, why="by an operator")


def _event(at: str, epoch: int, node: str | None, event: str, **facts: Any) -> Event:
    return {"at": at, "epoch": epoch, "node": node, "event": event, **facts}


def _last_sign(attempt: AttemptSummary) -> str | None:
    """Return the time of the node's last heartbeat, ISO 8601; None if the attempt's start is no time."""
    try:
        began = datetime.fromisoformat(attempt.started)
        return iso(began + timedelta(seconds=attempt.prepared_s + attempt.useful_s))
    except (ValueError, OverflowError):
        return None
