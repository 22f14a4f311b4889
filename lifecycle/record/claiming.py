"""Who may have a job: what to do with a message, by what its record says, and how to take the lease."""

import random
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from attrs import evolve, frozen

from lifecycle.job_record import KEPT_ATTEMPTS, AttemptSummary, JobRecord, iso
from lifecycle.limits import Limits
from lifecycle.ports.node import Node
from lifecycle.record.message import JobMessage
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State

JITTER: Final = timedelta(seconds=2)


class ClaimAction(Enum):
    """What to do with a message."""

    TAKE = "take"
    HAND_BACK = "hand back"
    PUBLISH = "publish"
    DISCARD = "discard"
    REJECT = "reject"


@frozen
class ClaimDecision:
    """A verdict with its reason; *delay* is for HAND_BACK."""

    verdict: ClaimAction
    why: str
    delay: timedelta = timedelta(0)


def decide(  # noqa: PLR0911 - a list of cases
    message: JobMessage, stored: StoredRecord | None, rng: random.Random, *, archived: bool = False
) -> ClaimDecision:
    """What to do with *message*, the record being *stored* (None: the store says that there is none).

    A job that is *archived* is over, whatever stands in the place of its record.
    """
    if archived:
        return ClaimDecision(ClaimAction.DISCARD, "the job is archived")
    if stored is None:
        if message.draft is None:
            return ClaimDecision(ClaimAction.REJECT, f"no record of job {message.keys.job} at {message.keys.record}")
        return ClaimDecision(ClaimAction.TAKE, "first seen")
    record = stored.record
    if record.is_settled:
        return ClaimDecision(ClaimAction.DISCARD, f"the job is {record.state}")
    if record.is_final:
        return ClaimDecision(ClaimAction.PUBLISH, "the job is completed, but its outputs are not published")
    if message.dispatch < record.dispatch:
        return ClaimDecision(
            ClaimAction.DISCARD, f"message {message.dispatch} was followed by message {record.dispatch}"
        )
    if record.is_owned(stored.age_s):
        left_s = record.lease_s + 1.0 - stored.age_s + rng.uniform(0, min(JITTER.total_seconds(), record.lease_s / 10))
        return ClaimDecision(ClaimAction.HAND_BACK, f"{record.owner} owns it", timedelta(seconds=max(left_s, 0.0)))
    return ClaimDecision(ClaimAction.TAKE, "nobody owns it")


def claim(message: JobMessage, stored: StoredRecord | None, *, node: Node, limits: Limits, now: datetime) -> JobRecord:
    """The record with which *node* takes the lease: one epoch further, and what became of the last one written down."""
    base = stored.record if stored else message.draft
    if base is None:
        raise ValueError(f"{message.keys.job} has neither a record nor a draft")
    if base.state in OWNED:
        vanished = base.attempts[-1] if base.attempts else None
        base = base.with_interruption("node_lost")
        base = evolve(base, deaths=base.deaths + (1 if vanished is None or not vanished.commits else 0))
        if vanished:
            base = evolve(base.with_attempt(outcome="vanished"), ran_s=base.ran_s + vanished.useful_s)
    epoch, stamp = base.epoch + 1, iso(now)
    attempt = AttemptSummary(epoch=epoch, node=node.name, kind=node.kind, started=stamp)
    return evolve(
        base,
        state=State.RECEIVED,
        epoch=epoch,
        owner=node.name,
        lease_s=limits.lease.total_seconds(),
        beat=0,
        backlog=None,
        dispatch=max(base.dispatch, message.dispatch),
        attempts=(*base.attempts, attempt)[-KEPT_ATTEMPTS:],
        timestamps=evolve(
            base.timestamps,
            submitted=base.timestamps.submitted or stamp,
            started=base.timestamps.started or stamp,
        ),
    )
