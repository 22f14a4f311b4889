"""What happened to a job, in the order of time: what its attempts wrote down, and what they could not.

A node that vanished tells of nothing; neither do a submit and an operator. That is told from the record.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from client.views.time_accounting import VANISHED
from lifecycle.job_record import AttemptSummary, JobRecord, iso
from lifecycle.states import State

Event = dict[str, Any]
"""`{"at", "epoch", "node", "event", …}`, as an attempt's log has it."""


def timeline(record: JobRecord, told: Iterable[Event]) -> list[Event]:
    """*told* by the attempts, and what the record adds; by time, as far as the nodes' clocks agree."""
    events = [*told, *_from_record(record)]
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
        what = "cancelled" if record.state is State.CANCELLED else "queued"
        yield _event(stamps.finished or stamps.updated, record.epoch, None, what, why="by an operator")


def _event(at: str, epoch: int, node: str | None, event: str, **facts: Any) -> Event:
    return {"at": at, "epoch": epoch, "node": node, "event": event, **facts}


def _last_sign(attempt: AttemptSummary) -> str | None:
    """When the node's last beat said that it lived."""
    try:
        began = datetime.fromisoformat(attempt.started)
    except ValueError:
        return None
    return iso(began + timedelta(seconds=attempt.prepared_s + attempt.useful_s))
