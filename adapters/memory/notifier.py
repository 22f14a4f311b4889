"""MemoryNotifier: a notifier and its receiver in one, which keeps the notices in memory."""

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from lifecycle.key_layout import JobKeys
from lifecycle.outbox import Notice
from lifecycle.ports.notifier import Notifier


@frozen
class DeliveredNotice:
    """A notice that has reached the receiver, with the keys of its job."""

    keys: JobKeys
    notice: Notice


def _nothing(_: Notice) -> None:
    """Do nothing: the receiver is well."""


@define(eq=False)
class MemoryNotifier:
    """A receiver that takes everything, unless a test makes it fail or wait.

    Attributes:
        before: Called with each notice before it arrives; may wait, or raise an error of the port.
        after: Called with each notice once it has arrived and before the call returns; the same. An error raised here
            is an acknowledgement that was lost.
        delivered: All that has arrived, in order, repeated deliveries included.
    """

    before: Callable[[Notice], None] = _nothing
    after: Callable[[Notice], None] = _nothing
    delivered: list[DeliveredNotice] = field(factory=list, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def deliver(self, keys: JobKeys, notice: Notice) -> None:
        """See `Notifier.deliver`."""
        self.before(notice)
        with self._lock:
            self.delivered.append(DeliveredNotice(keys, notice))
        self.after(notice)

    @property
    def notices(self) -> list[Notice]:
        """All notices that have arrived, in order, repeated deliveries included."""
        return [each.notice for each in self.delivered]

    @property
    def unique(self) -> list[Notice]:
        """The notices that a receiver is left with that drops those whose id it knows."""
        return list({notice.id: notice for notice in self.notices}.values())


if TYPE_CHECKING:

    def _conforms(notifier: MemoryNotifier) -> Notifier:
        return notifier
