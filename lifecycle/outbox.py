"""What a record has still to tell the world of its job's changes of state: a transactional outbox.

A notice is put in by the very write that records the change, and taken out by a later one, once it is delivered: so a
change that is recorded will be told, whoever dies; and what is not recorded is not told.
"""

from collections.abc import Collection
from typing import Final

from attrs import evolve, frozen

from lifecycle.states import State

NOTIFIABLE_STATES: Final = tuple(state for state in State if state is not State.SUPERSEDED)
"""What may be told: every state that is recorded."""

MAX_NOTICES: Final = 50
"""A receiver that is down for a week lets a record grow by 40 KiB at most, and stops no job."""


@frozen
class Notice:
    """One change of state, as it is told.

    Attributes:
        id: The same whenever it is told again, and no other's.
        epoch: Of the attempt, or of the operator's act, that changed the state.
        number: Rises within the epoch: what came later is greater by (epoch, number). Not every number is used.
        state: The state that was entered.
        at: When, ISO 8601 UTC, by the clock of whoever did it.
        node: Whose attempt it was; None for an operator.
        cause: Why, in a word, as the record counts it; None where the state says all.
        error: What went wrong, its beginning; None if nothing did.
        done: Steps done, as of that write; None if the workload does not say.
        total: Steps in all; the same.
        missed: Older notices that this one stands for as well, since there were too many. One of those may have been
            delivered after all.
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
    """Notices that are not known to be delivered.

    Attributes:
        notices: Oldest first, KEPT_NOTICES at most.
        epoch: With *number*, the newest notice that was ever put in. A change that is applied again, when the notice
            that it puts in may long have been delivered and taken out (a write whose answer was lost; a zombie that
            repeats its last write), is known by this mark, and puts nothing in a second time.
        number: See *epoch*.
    """

    notices: tuple[Notice, ...] = ()
    epoch: int = 0
    number: int = 0

    def with_notice(self, notice: Notice) -> "Outbox":
        """A copy with *notice* last; the same outbox if it was put in before, whatever became of it since."""
        if (notice.epoch, notice.number) <= (self.epoch, self.number):
            return self
        return Outbox(_bounded((*self.notices, notice)), notice.epoch, notice.number)

    def without(self, ids: Collection[str]) -> "Outbox":
        """A copy without the notices of these *ids*."""
        return evolve(self, notices=tuple(notice for notice in self.notices if notice.id not in ids))


EMPTY: Final = Outbox()
"""Nothing to tell, and nothing ever was."""


def _bounded(notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    """*notices*, the oldest folded into the one that follows it while there are too many."""
    while len(notices) > MAX_NOTICES:
        oldest, following, *rest = notices
        notices = (evolve(following, missed=following.missed + oldest.missed + 1), *rest)
    return notices
