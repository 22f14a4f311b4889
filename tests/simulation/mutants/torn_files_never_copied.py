"""A file that is written to in place is linked again and again, so that every snapshot of it is torn."""

from simulation.checker import WORK_LOST

from lifecycle.checkpointer import Checkpointer

FOUND_AS = (WORK_LOST,)


def install() -> None:
    Checkpointer._retake = lambda self, torn: self._be_due_again(in_s=0.0)  # type: ignore[method-assign]
