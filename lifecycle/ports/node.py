"""Port for the machine that the worker runs on: its identity, and two requests to the platform that hosts it."""

from typing import Protocol


class Node(Protocol):
    """The worker's machine. No method raises: a platform that cannot answer is logged by the adapter."""

    @property
    def name(self) -> str:
        """Name of this worker process: constant while it lives, and used by no other process, past or present."""

    @property
    def machine(self) -> str:
        """Name of the machine: the same for all worker processes on it, past and present."""

    @property
    def kind(self) -> str:
        """Kind of machine, in its operator's words, such as a GPU model; empty if not configured."""

    def reallocate(self, reason: str) -> None:
        """Ask the platform to replace this machine with another. Safe to repeat.

        Does nothing where the platform has no such request.

        Args:
            reason: Explanation for the platform's operators, 1 to 1,000 characters.
        """

    def set_deletion_cost(self, cost: int) -> None:
        """Tell the platform how much would be lost if a voluntary scale-in removed this machine. Safe to repeat.

        Args:
            cost: Machines with the lowest cost are removed first; no unit.
        """
