"""Several observers as one, none of which can harm an attempt."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lifecycle.job_record import JobRecord
from lifecycle.ports.observer import Observer
from lifecycle.states import Edge

log = logging.getLogger("holdfast.observers")


class Observers:
    """Tells each of *observers* in turn, and logs what one raises."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """As the port has it."""
        self._tell(lambda observer: observer.entered(edge, record))

    def wrote(self, record: JobRecord) -> None:
        """As the port has it."""
        self._tell(lambda observer: observer.wrote(record))

    def noted(self, line: Mapping[str, Any]) -> None:
        """As the port has it."""
        self._tell(lambda observer: observer.noted(line))

    def left(self, record: JobRecord) -> None:
        """As the port has it."""
        self._tell(lambda observer: observer.left(record))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                log.exception("%s failed; the job goes on", type(observer).__name__)


NOBODY: Final = Observers()
"""Nobody is told."""


if TYPE_CHECKING:

    def _conforms(observers: Observers) -> Observer:
        return observers
