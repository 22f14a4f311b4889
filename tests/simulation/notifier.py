"""The receiver of webhooks: every recorded notice must be delivered at least once, and no other notice."""

import math
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field
from simulation.world import World

from lifecycle.errors import RetryableError
from lifecycle.job_record import JobRecord
from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.states import State

if TYPE_CHECKING:
    from simulation.checker import Checker

TOLD: Final = "a recorded change is told, and no other"

_TO_AND_FRO: Final = {State.RUNNING, State.CHECKPOINTING}


@define(eq=False)
class WatchedNotifier:
    """The notifier together with its receiver.

    Attributes:
        world: Time.
        checker: Receives violations.
        is_on: True if this history has webhooks.
        down_until: End of the receiver's outage.
        recorded: All notices that were ever in a record, by id.
        told: Number of deliveries, by id.
    """

    world: World
    checker: "Checker"
    is_on: bool = False
    down_until: float = -math.inf
    recorded: dict[str, Notice] = field(factory=dict)
    told: dict[str, int] = field(factory=dict)

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier`."""
        if self.world.time < self.down_until:
            raise RetryableError("the receiver is down, on purpose")
        known = self.recorded.get(notice.id)
        if known is None or known != evolve(notice, missed=known.missed):
            raise self.checker.broken(TOLD, f"{keys.job}: {notice} was told, and {known} is recorded")
        self.told[notice.id] = self.told.get(notice.id, 0) + 1
        self.world.tell("receiver", f"hears that {notice.id} is {notice.state}")

    def wrote(self, before: JobRecord, after: JobRecord) -> None:
        """Check the outbox of a record that was written."""
        if not self.is_on:
            return
        stood = {notice.id: notice for notice in before.outbox.notices}
        stands = {notice.id: notice for notice in after.outbox.notices}
        came = [notice for notice in after.outbox.notices if notice.id not in stood]
        for notice in came:
            if notice.id in self.recorded:
                raise self.checker.broken(TOLD, f"{after.job}: {notice.id} was taken out, and came back")
            self.recorded[notice.id] = notice
        missed = sum(each.missed for each in stands.values()) - sum(each.missed for each in stood.values())
        lost = [notice_id for notice_id in stood if notice_id not in stands and notice_id not in self.told]
        if missed < len(lost):
            raise self.checker.broken(TOLD, f"{after.job}: {lost} left the record, and nobody was told")
        self._expect_notice(before, after, came)
        self._expect_no_second(before, after, came)

    def _expect_no_second(self, before: JobRecord, after: JobRecord, came: list[Notice]) -> None:
        """Check that a change of state has one notice, even if its write was repeated."""
        at = (before.epoch, before.state)
        for notice in came:
            if (notice.epoch, notice.state) == at:
                raise self.checker.broken(TOLD, f"{after.job}: {notice.id} tells of {notice.state} a second time")
            at = (notice.epoch, notice.state)

    def _expect_notice(self, before: JobRecord, after: JobRecord, came: list[Notice]) -> None:
        is_same = before.epoch == after.epoch and (
            before.state is after.state or {before.state, after.state} <= _TO_AND_FRO
        )
        entered = State.RUNNING if after.state is State.CHECKPOINTING else after.state
        if not is_same and not (came and came[-1].epoch == after.epoch and came[-1].state is entered):
            raise self.checker.broken(
                TOLD, f"{after.job} went from {before.state} to {after.state}, and the record has no notice of it"
            )

    def expect_all_told(self) -> None:
        """Check at the end that every recorded notice was delivered."""
        if untold := self.recorded.keys() - self.told.keys():
            raise self.checker.broken(TOLD, f"nobody was ever told of {sorted(untold)}")
