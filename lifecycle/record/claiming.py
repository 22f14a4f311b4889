"""Deciding what to do with a message, and claiming its job."""

import random
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from attrs import evolve, frozen

from lifecycle.errors import IllegalTransitionError
from lifecycle.job_record import KEPT_ATTEMPTS, LEASE_SLACK_S, SCHEMA, AttemptSummary, JobRecord, iso
from lifecycle.limits import Limits
from lifecycle.machine import Change
from lifecycle.ports.node import Node
from lifecycle.record.blame import with_age, with_attempt_on
from lifecycle.record.message import JobMessage
from lifecycle.record.record_store import StoredRecord
from lifecycle.record.usability import can_fall_back, fallen_back, with_mark_of_older_version
from lifecycle.states import OWNED, Facts, Trigger, edge_for

JITTER: Final = timedelta(seconds=2)  # workers that wait for one lease do not all return at once
UNADDRESSED: Final = timedelta(minutes=2)  # an earlier version sent the message, perhaps for another prefix


class ClaimAction(Enum):
    """An action to take on a message."""

    TAKE = "take"
    RELEASE = "release"
    PUBLISH = "publish"
    DISCARD = "discard"
    REJECT = "reject"


@frozen
class ClaimDecision:
    """An action with its reason.

    Attributes:
        action: What to do.
        reason: Why, in a few words for the log.
        delay: For RELEASE, how long the queue hides the message.
    """

    action: ClaimAction
    reason: str
    delay: timedelta = timedelta(0)


def decide(  # noqa: PLR0911 - a list of cases
    message: JobMessage, stored: StoredRecord | None, rng: random.Random, *, archived: bool = False
) -> ClaimDecision:
    """Decide what to do with *message*.

    Args:
        message: What was received.
        stored: The job's record; None if the store says that there is none.
        rng: Source of jitter.
        archived: Whether the job is in the archive, which ends it even if a record has its id again.
    """
    if archived:
        return ClaimDecision(ClaimAction.DISCARD, "the job is archived")
    if stored is None:
        if message.draft is None and not message.is_addressed:
            reason = f"no record of job {message.keys.job}, and the message does not say where it is"
            return ClaimDecision(ClaimAction.RELEASE, reason, UNADDRESSED)
        if message.draft is None:
            return ClaimDecision(ClaimAction.REJECT, f"no record of job {message.keys.job} at {message.keys.record}")
        return ClaimDecision(ClaimAction.TAKE, "first seen")
    record = stored.record
    if record.is_settled:
        return ClaimDecision(ClaimAction.DISCARD, f"the job is {record.state}")
    if record.is_final:
        return ClaimDecision(ClaimAction.PUBLISH, "the job is completed, but its outputs are not published")
    if message.sequence < record.dispatch:
        return ClaimDecision(
            ClaimAction.DISCARD, f"message {message.sequence} was followed by message {record.dispatch}"
        )
    try:
        edge_for(record.state, Trigger.TAKE, lease_facts(stored))
    except IllegalTransitionError:
        left_s = record.lease_s + LEASE_SLACK_S - (stored.age_s or 0.0)
        jitter_s = rng.uniform(0, min(JITTER.total_seconds(), record.lease_s / 10))
        delay = timedelta(seconds=max(left_s + jitter_s, 0.0))
        return ClaimDecision(ClaimAction.RELEASE, f"{record.owner} owns it", delay)
    return ClaimDecision(ClaimAction.TAKE, "it has no owner")


def lease_facts(stored: StoredRecord | None) -> Facts:
    """Establish whether an attempt holds a fresh lease on the job of *stored*, by the record's age in the store."""
    return Facts(other_lease_fresh=stored is not None and stored.record.is_owned(stored.age_s))


def claiming(message: JobMessage, *, node: Node, limits: Limits, now: datetime, age_s: float = 0.0) -> Change:
    """Return the change with which *node* claims the job: a new epoch, owner and attempt.

    The record's schema rises, because the attempt's checkpoints may have what older workers do not know.

    An attempt that vanished is written off in the same change: its end is noted, and it counts as a lost attempt unless
    it got further.

    Args:
        message: The message that announced the job.
        node: The node that claims it.
        limits: Holds the length of the lease.
        now: Time of the claim, by the node's clock.
        age_s: Seconds since the record was last written, by the store's clock.
    """
    stamp = iso(now)

    def claim(record: JobRecord) -> JobRecord:
        base = _without_lost_owner(record) if record.state in OWNED else record
        base = with_mark_of_older_version(with_attempt_on(with_age(base, age_s), node.machine))
        if base.deaths >= limits.max_lost_attempts and can_fall_back(base):
            base = fallen_back(base)  # nothing fails a job before its fallback was tried
        attempt = AttemptSummary(
            epoch=base.epoch + 1, node=node.name, kind=node.kind, machine=node.machine, started=stamp
        )
        return evolve(
            base,
            schema=SCHEMA,
            epoch=attempt.epoch,
            owner=node.name,
            lease_s=limits.lease.total_seconds(),
            beat=0,
            backlog=None,
            saving=None,
            dispatch=max(base.dispatch, message.sequence),
            attempts=(*base.attempts, attempt)[-KEPT_ATTEMPTS:],
            timestamps=evolve(
                base.timestamps,
                submitted=base.timestamps.submitted or stamp,
                started=base.timestamps.started or stamp,
            ),
        )

    return claim


def _without_lost_owner(record: JobRecord) -> JobRecord:
    """Return *record* with its last attempt written off as vanished."""
    lost = record.attempts[-1] if record.attempts else None
    written_off = evolve(
        record.with_interruption("node_lost"), deaths=record.deaths + (0 if lost and lost.commits else 1)
    )
    if lost is None:
        return written_off
    return evolve(written_off.with_attempt(outcome="vanished"), ran_s=record.ran_s + lost.useful_s)
