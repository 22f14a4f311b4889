"""Transactional outbox: the changes of state that a record has yet to report to the outside.

The write that records a change also puts its notice into the outbox. A later write removes the notice, after it was
delivered. So every recorded change is reported even if a node dies in between, and a change that was not recorded is
never reported.
"""

from collections.abc import Collection
from typing import Final

from attrs import evolve, frozen

from lifecycle.states import State

NOTIFIABLE_STATES: Final = tuple(state for state in State if state is not State.SUPERSEDED)
"""States whose entry can be reported: all that are recorded."""

MAX_NOTICES: Final = 50
"""Bound on the size of an outbox: if the receiver is down for a week, the record grows by 40 KiB and no job stops."""


@frozen
class Notice:
    """Report of one change of state.

    Attributes:
        id: Identifies the change; the same on every delivery.
        epoch: Epoch of the attempt, or of the operator's command, that changed the state.
        number: Increases within the epoch, so notices are ordered by (epoch, number). Numbers may be skipped.
        state: The state that was entered.
        at: Time of the change, ISO 8601 UTC, by the clock of the node that made it.
        node: Name of the attempt's node; None for an operator.
        cause: Cause in a word, as the record counts it; None if the state says everything.
        error: Beginning of the error message; None if nothing went wrong.
        done: Number of steps done at that time; None if the workload does not report it.
        total: Number of steps in all; None likewise.
        missed: Number of older notices that were dropped in favour of this one because there were too many. Some of
            them may have been delivered after all.
    """

    id: str
    epoch: int
    number: int
    state: State
    at: str
    node: str | None = None
    cause: str | None = None
    error: str | None = None
    done: int | None = None
    total: int | None = None
    missed: int = 0


@frozen
class Outbox:
    """Notices that are not known to have been delivered.

    Attributes:
        notices: At most MAX_NOTICES, oldest first.
        epoch: Together with *number*, the newest notice that was ever added. A change that is applied a second time
            (because the answer to its write was lost, or by a zombie that repeats its last write) is recognised by
            this, even if its notice has been delivered and removed meanwhile.
        number: See *epoch*.
    """

    notices: tuple[Notice, ...] = ()
    epoch: int = 0
    number: int = 0

    def with_notice(self, notice: Notice) -> "Outbox":
        """Return a copy with *notice* appended, or this outbox if that notice was already added at some time."""
        if (notice.epoch, notice.number) <= (self.epoch, self.number):
            return self
        return Outbox(_bounded((*self.notices, notice)), notice.epoch, notice.number)

    def without(self, ids: Collection[str]) -> "Outbox":
        """Return a copy without the notices that have these *ids*."""
        return evolve(self, notices=tuple(notice for notice in self.notices if notice.id not in ids))


EMPTY: Final = Outbox()
"""The outbox of a job that has never had a notice."""


def _bounded(notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    """Drop the oldest notices while there are too many, and count them in the one that follows."""
    while len(notices) > MAX_NOTICES:
        oldest, following, *rest = notices
        notices = (evolve(following, missed=following.missed + oldest.missed + 1), *rest)
    return notices
