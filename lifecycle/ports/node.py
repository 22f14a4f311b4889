"""Node: the machine under us: who it is, and how to be rid of it."""

from typing import Protocol


class Node(Protocol):
    """What a hosting platform lets a process know and ask."""

    @property
    def name(self) -> str:
        """Stable for the process's life, and no two processes' the same: `host-pid-random`, or the platform's id."""

    @property
    def kind(self) -> str:
        """What kind of machine it is, for comparing them: as its operator calls it; empty if nobody said."""

    def reallocate(self, reason: str) -> None:
        """Ask to be replaced by another machine, if the platform can; *reason* is 1-1000 characters. Never raises."""

    def set_deletion_cost(self, cost: int) -> None:
        """Say how much a voluntary scale-in would lose here; the lowest goes first. Never raises."""
