"""A receiver of notices, in memory: what it was told, in order, and what it does instead of answering."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.ports.notifier import Notifier


@define(eq=False)
class Receiver:
    """A herald that is its own receiver.

    Attributes:
        before: Called with each notice before it is there; may raise or wait.
        after: The same, when it is there, and before that is said.
        told: What came, as often as it came.
    """

    before: Callable[[Notice], None] = lambda _: None
    after: Callable[[Notice], None] = lambda _: None
    told: list[Notice] = field(factory=list)
    jobs: list[str] = field(factory=list)

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier`."""
        self.before(notice)
        self.told.append(notice)
        self.jobs.append(keys.job)
        self.after(notice)

    @property
    def states(self) -> list[str]:
        """The states that it was told, in order."""
        return [str(notice.state) for notice in self.told]

    @property
    def unique(self) -> list[Notice]:
        """What a receiver that drops duplicates is left with."""
        return list({notice.id: notice for notice in self.told}.values())


if TYPE_CHECKING:

    def _conforms(receiver: Receiver) -> Notifier:
        return receiver
