"""Port for observing a worker without influencing it: logs, metrics and traces."""

from collections.abc import Mapping
from typing import Any, Protocol

from lifecycle.job_record import JobRecord
from lifecycle.states import Edge


class Observer(Protocol):
    """Receives events after they happened, in the thread that caused them.

    A method must not block. An exception that it raises is logged and otherwise ignored. A worker makes one attempt at
    a time: the attempt begins with an `entered` for the trigger `take`, and ends with `left`.
    """

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """Observe that the attempt changed its state along *edge*.

        Args:
            edge: The change, and when it reaches the record.
            record: The record as last known to be stored. It does not show a change that is only written with the
                next heartbeat.
        """

    def wrote(self, record: JobRecord) -> None:
        """Observe that the attempt wrote *record*: at each heartbeat, commit and end. The lease has been renewed."""

    def noted(self, line: Mapping[str, Any]) -> None:
        """Observe a new line of the attempt's event log: `at`, `epoch`, `node`, `event`, and fields of that event."""

    def left(self, record: JobRecord) -> None:
        """Observe that the attempt is over and left *record* behind.

        If the attempt was superseded, an `entered` for that change came before.
        """
