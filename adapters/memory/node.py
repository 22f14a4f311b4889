"""MemoryNode: a machine of a platform that exists only in a test, which keeps what it was asked."""

from itertools import count
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, field

from lifecycle.ports.node import Node

NUMBERS: Final = count(1)
"""Numbers of the nodes that are given no name."""


@define
class MemoryNode:
    """A replaceable machine.

    Attributes:
        name: See `Node.name`; by default node1, node2, …
        kind: See `Node.kind`.
        machine: See `Node.machine`; by default a machine of its own.
        reallocations: Reasons of all calls of `reallocate`, oldest first.
        deletion_costs: Arguments of all calls of `set_deletion_cost`, oldest first.
    """

    name: str = field(factory=lambda: f"node{next(NUMBERS)}")
    kind: str = ""
    machine: str = Factory(lambda self: self.name, takes_self=True)
    reallocations: list[str] = field(factory=list, init=False)
    deletion_costs: list[int] = field(factory=list, init=False)

    def reallocate(self, reason: str) -> None:
        """See `Node.reallocate`."""
        self.reallocations.append(reason)

    def set_deletion_cost(self, cost: int) -> None:
        """See `Node.set_deletion_cost`."""
        self.deletion_costs.append(cost)


if TYPE_CHECKING:

    def _conforms(node: MemoryNode) -> Node:
        return node
