"""Which changes of state are told, and how each gets its notice, and the notice its number."""

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
"""What is told if nobody says: all but the going to and fro between running and checkpointing."""

KEPT_ERROR: Final = 300  # characters: the record has the rest
SALT: Final = 8  # hexadecimal digits

_TO_AND_FRO: Final = frozenset({State.RUNNING, State.CHECKPOINTING})


@frozen
class NotificationPolicy:
    """Whom changes of state are told through, and which.

    Attributes:
        notifier: Brings them.
        states: Those that are told when they are entered.
    """

    notifier: Notifier
    states: frozenset[State] = DEFAULT_NOTIFIED_STATES

    def notifies(self, edge: Edge) -> bool:
        """Whether following *edge* is told. To `running` and back it is only if `checkpointing` is wanted."""
        if {edge.source, edge.destination} <= _TO_AND_FRO:
            wanted = State.CHECKPOINTING in self.states and edge.source is not edge.destination
            return wanted and edge.destination in self.states
        return edge.destination in self.states


def with_notice(  # a form to fill in: everything but the record says what happened
    record: JobRecord,
    keys: JobKeys,
    *,
    number: int,
    at: datetime,
    node: str | None = None,
    cause: str | None = None,
    error: str | None = None,
) -> JobRecord:
    """*record* with a notice of the state that it has now entered. Applied to its own result, it changes nothing."""
    notice = Notice(
        id=f"{record.job}:{record.epoch}:{number}:{_instance_hash(record, keys)}",
        epoch=record.epoch,
        number=number,
        state=record.state,
        at=iso(at),
        node=node,
        cause=cause,
        error=error[:KEPT_ERROR] if error else None,
        done=record.progress.done,
        total=record.progress.total,
    )
    return evolve(record, outbox=record.outbox.with_notice(notice))


def without_delivered(ids: Collection[str]) -> Change:
    """The change that takes the notices of these *ids* out."""
    kept = frozenset(ids)
    return lambda record: evolve(record, outbox=record.outbox.without(kept))


def _instance_hash(record: JobRecord, keys: JobKeys) -> str:
    """Tells a job from others of its name: under another prefix, or submitted again after a purge, from epoch 1 on."""
    whose = f"{keys.record} {record.timestamps.submitted}"
    return hashlib.sha256(whose.encode()).hexdigest()[:SALT]


class NotificationRecorder:
    """Numbers the changes of state of one attempt. Belongs to the thread that owns the machine.

    Args:
        notification_policy: What is told; None is nothing.
        keys: The job's.
        node: Whose attempt it is.
        clock: For when.
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
        """The change that puts a notice of following *edge* into the record, once that has the new state.

        An edge that is tried again, because nobody knows whether it was recorded, keeps its number, and so its id.
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
        """The edge that was begun was followed: what comes now is another change, be it along the same edge."""
        self._begun = None
