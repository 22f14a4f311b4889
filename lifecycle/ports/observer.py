"""Observer: who is told what a worker does, and changes nothing: logs, metrics, traces."""

from collections.abc import Mapping
from typing import Any, Protocol

from lifecycle.job_record import JobRecord
from lifecycle.states import Edge


class Observer(Protocol):
    """Is told after the fact, by whichever thread did it. Must not wait; what it raises is logged, and goes no further.

    A worker makes one attempt at a time: it begins when `entered` is told of a `take`, and is over when `left` is told.
    """

    def entered(self, edge: Edge, record: JobRecord) -> None:
        """The attempt followed *edge*.

        Args:
            edge: What changed, and when the record learns of it.
            record: As last known to stand in the store; an edge that is recorded with the next beat is not in it yet.
        """

    def wrote(self, record: JobRecord) -> None:
        """The attempt's *record* was written: at each beat, commit and end. The lease is fresh."""

    def noted(self, line: Mapping[str, Any]) -> None:
        """A line was added to the attempt's log: `at`, `epoch`, `node`, `event`, and the facts of that event."""

    def left(self, record: JobRecord) -> None:
        """The attempt is over, and has left *record*; one that was superseded is told so by `entered` before."""
