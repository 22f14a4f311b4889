"""Several observers as one, none of which can harm an attempt."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lifecycle.job_record import JobRecord
from lifecycle.ports.observer import Observer
from lifecycle.states import Edge
from lifecycle.structured_log import StructuredLogger

log = StructuredLogger("holdfast.observers")


class Observers:
    """Calls each of *observers* in turn, and logs what one raises."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """See `Observer.entered`."""
        self._call(lambda observer: observer.entered(edge, record))

    def wrote(self, record: JobRecord) -> None:
        """See `Observer.wrote`."""
        self._call(lambda observer: observer.wrote(record))

    def noted(self, line: Mapping[str, Any]) -> None:
        """See `Observer.noted`."""
        self._call(lambda observer: observer.noted(line))

    def left(self, record: JobRecord) -> None:
        """See `Observer.left`."""
        self._call(lambda observer: observer.left(record))

    def _call(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                call(observer)
            except Exception:
                log.exception("observer.failed", observer=type(observer).__name__)


NO_OBSERVERS: Final = Observers()
"""Observes nothing."""


if TYPE_CHECKING:

    def _conforms(observers: Observers) -> Observer:
        return observers
