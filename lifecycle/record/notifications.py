"""Creating the notices of an attempt: which changes of state are reported, and under which numbers."""

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Final

from attrs import evolve, frozen

from lifecycle.job_record import JobRecord, iso
from lifecycle.key_layout import JobKeys
from lifecycle.machine import Change, unchanged
from lifecycle.outbox import NOTIFIABLE_STATES, Notice
from lifecycle.ports.clock import Clock
from lifecycle.ports.notifier import Notifier
from lifecycle.states import OWNED, Edge, State

DEFAULT_NOTIFIED_STATES: Final = frozenset(NOTIFIABLE_STATES) - {State.CHECKPOINTING}
"""States that are reported by default: all but the frequent alternation between running and checkpointing."""

MAX_ERROR_CHARACTERS: Final = 300  # the record has the whole error
INSTANCE_DIGITS: Final = 8  # hexadecimal

_ALTERNATING: Final = frozenset({State.RUNNING, State.CHECKPOINTING})


@frozen
class NotificationPolicy:
    """Receiver of notices, and the states that it wants to hear of.

    Attributes:
        notifier: Delivers the notices.
        states: States whose entry is reported.
    """

    notifier: Notifier
    states: frozenset[State] = DEFAULT_NOTIFIED_STATES

    def notifies(self, edge: Edge) -> bool:
        """Return whether following *edge* is reported.

        Going back from `checkpointing` to `running` is reported only if `checkpointing` is wanted, too: it would
        otherwise report `running` after every checkpoint.
        """
        if {edge.source, edge.destination} <= _ALTERNATING:
            wanted = State.CHECKPOINTING in self.states and edge.source is not edge.destination
            return wanted and edge.destination in self.states
        return edge.destination in self.states


def with_notice(
    record: JobRecord,
    keys: JobKeys,
    *,
    number: int,
    at: datetime,
    node: str | None = None,
    cause: str | None = None,
    error: str | None = None,
) -> JobRecord:
    """Return *record* with a notice of the state that it has entered. Applying it twice adds one notice.

    Args:
        record: The record, with its new state and epoch.
        keys: Keys of the job.
        number: Number of the notice within the epoch.
        at: Time of the change.
        node: Name of the attempt's node; None for an operator.
        cause: Cause in a word; None if the state says everything.
        error: Error message, of which the beginning is reported; None if nothing went wrong.
    """
    notice = Notice(
        id=f"{record.job}:{record.epoch}:{number}:{_instance_hash(record, keys)}",
        epoch=record.epoch,
        number=number,
        state=record.state,
        at=iso(at),
        node=node,
        cause=cause,
        error=error[:MAX_ERROR_CHARACTERS] if error else None,
        done=record.progress.done,
        total=record.progress.total,
    )
    return evolve(record, outbox=record.outbox.with_notice(notice))


def without_delivered(ids: Collection[str]) -> Change:
    """Return the change that removes the notices with these *ids* from the outbox."""
    delivered = frozenset(ids)
    return lambda record: evolve(record, outbox=record.outbox.without(delivered))


def _instance_hash(record: JobRecord, keys: JobKeys) -> str:
    """Return digits that tell the job from others with its id: under another prefix, or submitted again after a purge.

    The epochs of all of them start at 1, so without it the ids of their notices would be equal.
    """
    instance = f"{keys.record} {record.timestamps.submitted}"
    return hashlib.sha256(instance.encode()).hexdigest()[:INSTANCE_DIGITS]


class NotificationRecorder:
    """Numbers the changes of state of one attempt. Used only by the thread that owns the state machine.

    Args:
        notification_policy: Changes to report; None for none.
        keys: Keys of the job.
        node: Name of the attempt's node.
        clock: For the time of each change.
    """

    def __init__(
        self, notification_policy: NotificationPolicy | None, keys: JobKeys, *, node: str, clock: Clock
    ) -> None:
        self._notification_policy = notification_policy
        self._keys = keys
        self._node = node
        self._clock = clock
        self._number = 0
        self._begun: Edge | None = None

    def of(self, edge: Edge, *, cause: str | None = None, error: str | None = None) -> Change:
        """Return the change that adds the notice for following *edge* to a record that already has the new state.

        An edge that is tried again, because it is unknown whether it was recorded, keeps its number and thus the id of
        its notice.

        Args:
            edge: The change of state.
            cause: Cause of the attempt's end in a word; None before the end.
            error: Error message; None if nothing went wrong.
        """
        if self._notification_policy is None or not self._notification_policy.notifies(edge):
            return unchanged
        if edge is not self._begun:
            self._begun = edge
            self._number += 1
        number, at = self._number, self._clock.now()
        if edge.source in OWNED and edge.destination is State.RECEIVED:
            cause = "node_lost"
        return lambda record: with_notice(
            record, self._keys, number=number, at=at, node=self._node, cause=cause, error=error
        )

    def entered(self) -> None:
        """Note that the edge was followed: the next change gets a new number, even along the same edge."""
        self._begun = None
