"""In-memory receiver of notices: it keeps the deliveries in order, and can raise or wait instead of accepting."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.ports.notifier import Notifier


@define(eq=False)
class Receiver:
    """A notifier that is its own receiver.

    Attributes:
        before: Called with each notice before it is accepted; may raise or wait.
        after: Called with each notice after it is accepted, before the call returns; may raise or wait.
        deliveries: The notices as delivered, duplicates included.
    """

    before: Callable[[Notice], None] = lambda _: None
    after: Callable[[Notice], None] = lambda _: None
    deliveries: list[Notice] = field(factory=list)
    jobs: list[str] = field(factory=list)

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier`."""
        self.before(notice)
        self.deliveries.append(notice)
        self.jobs.append(keys.job)
        self.after(notice)

    @property
    def states(self) -> list[str]:
        """The delivered states, in order."""
        return [str(notice.state) for notice in self.deliveries]

    @property
    def unique(self) -> list[Notice]:
        """The deliveries without duplicates, as a receiver that recognizes ids has them."""
        return list({notice.id: notice for notice in self.deliveries}.values())


if TYPE_CHECKING:

    def _conforms(receiver: Receiver) -> Notifier:
        return receiver
