"""Who may have a job: what to do with a message, by what its record says, and how to take the lease."""

import random
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from attrs import evolve, frozen

from lifecycle.job_record import KEPT_ATTEMPTS, AttemptSummary, JobRecord, iso
from lifecycle.limits import Policy
from lifecycle.ports.node import Node
from lifecycle.record.message import Call
from lifecycle.record.record_store import Held
from lifecycle.states import OWNED, State

JITTER: Final = timedelta(seconds=2)


class Verdict(Enum):
    """What to do with a message."""

    TAKE = "take"
    HAND_BACK = "hand back"
    PUBLISH = "publish"
    DISCARD = "discard"
    REJECT = "reject"


@frozen
class Judgement:
    """A verdict with its reason; *delay* is for HAND_BACK."""

    verdict: Verdict
    why: str
    delay: timedelta = timedelta(0)


def judge(  # noqa: PLR0911 - a list of cases
    call: Call, held: Held | None, rng: random.Random, *, archived: bool = False
) -> Judgement:
    """What to do with *call*, the record being *held* (None: the store says that there is none).

    A job that is *archived* is over, whatever stands in the place of its record.
    """
    if archived:
        return Judgement(Verdict.DISCARD, "the job is archived")
    if held is None:
        if call.draft is None:
            return Judgement(Verdict.REJECT, f"no record of job {call.keys.job} at {call.keys.record}")
        return Judgement(Verdict.TAKE, "first seen")
    record = held.record
    if record.is_settled:
        return Judgement(Verdict.DISCARD, f"the job is {record.state}")
    if record.is_final:
        return Judgement(Verdict.PUBLISH, "the job is completed, but its outputs are not published")
    if call.dispatch < record.dispatch:
        return Judgement(Verdict.DISCARD, f"message {call.dispatch} was followed by message {record.dispatch}")
    if record.is_owned(held.age_s):
        left_s = record.lease_s + 1.0 - held.age_s + rng.uniform(0, min(JITTER.total_seconds(), record.lease_s / 10))
        return Judgement(Verdict.HAND_BACK, f"{record.owner} owns it", timedelta(seconds=max(left_s, 0.0)))
    return Judgement(Verdict.TAKE, "nobody owns it")


def claim(call: Call, held: Held | None, *, node: Node, policy: Policy, now: datetime) -> JobRecord:
    """The record with which *node* takes the lease: one epoch further, and what became of the last one written down."""
    base = held.record if held else call.draft
    if base is None:
        raise ValueError(f"{call.keys.job} has neither a record nor a draft")
    if base.state in OWNED:
        vanished = base.attempts[-1] if base.attempts else None
        base = base.counting("node_lost")
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
        lease_s=policy.lease.total_seconds(),
        beat=0,
        backlog=None,
        dispatch=max(base.dispatch, call.dispatch),
        attempts=(*base.attempts, attempt)[-KEPT_ATTEMPTS:],
        timestamps=evolve(
            base.timestamps,
            submitted=base.timestamps.submitted or stamp,
            started=base.timestamps.started or stamp,
        ),
    )
