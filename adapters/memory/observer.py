"""MemoryObserver: an observer that keeps everything it is told, in order, and can tell it to another observer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from lifecycle.job_record import JobRecord
from lifecycle.ports.observer import Observer
from lifecycle.states import Edge


@frozen
class Entered:
    """A call of `Observer.entered`."""

    edge: Edge
    record: JobRecord

    def replay(self, observer: Observer) -> None:
        """Make the call again, to *observer*."""
        observer.entered(self.edge, self.record)


@frozen
class Wrote:
    """A call of `Observer.wrote`."""

    record: JobRecord

    def replay(self, observer: Observer) -> None:
        """Make the call again, to *observer*."""
        observer.wrote(self.record)


@frozen
class Noted:
    """A call of `Observer.noted`."""

    line: Mapping[str, Any]

    def replay(self, observer: Observer) -> None:
        """Make the call again, to *observer*."""
        observer.noted(self.line)


@frozen
class Left:
    """A call of `Observer.left`."""

    record: JobRecord

    def replay(self, observer: Observer) -> None:
        """Make the call again, to *observer*."""
        observer.left(self.record)


Call = Entered | Wrote | Noted | Left


@define
class MemoryObserver:
    """An observer for tests.

    Attributes:
        calls: Everything that it was told, oldest first.
    """

    calls: list[Call] = field(factory=list, init=False)

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        self.calls.append(Entered(edge, record))

    def wrote(self, record: JobRecord) -> None:
        """See `Observer.wrote`."""
        self.calls.append(Wrote(record))

    def noted(self, line: Mapping[str, Any]) -> None:
        """See `Observer.noted`."""
        self.calls.append(Noted(dict(line)))

    def left(self, record: JobRecord) -> None:
        """See `Observer.left`."""
        self.calls.append(Left(record))

    @property
    def edges(self) -> list[Edge]:
        """The edges that the attempts followed."""
        return [call.edge for call in self.calls if isinstance(call, Entered)]

    @property
    def written(self) -> list[JobRecord]:
        """The records that were written."""
        return [call.record for call in self.calls if isinstance(call, Wrote)]

    @property
    def lines(self) -> list[Mapping[str, Any]]:
        """The lines of the attempts' logs."""
        return [call.line for call in self.calls if isinstance(call, Noted)]

    @property
    def left_behind(self) -> list[JobRecord]:
        """The records that the attempts left."""
        return [call.record for call in self.calls if isinstance(call, Left)]


if TYPE_CHECKING:

    def _conforms(observer: MemoryObserver) -> Observer:
        return observer
