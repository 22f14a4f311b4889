"""LocalNode: a host that no platform replaces; and the choice of the node that this process runs on."""

import os
import secrets
import socket
from typing import TYPE_CHECKING

from attrs import Factory, frozen

from adapters.retrier import Retrier
from adapters.salad.node import SaladNode
from lifecycle.ports.node import Node
from lifecycle.structured_log import StructuredLogger

log = StructuredLogger("holdfast.node")


@frozen
class LocalNode:
    """A host that no platform replaces.

    Attributes:
        name: The host's name, the process id and a random suffix.
        kind: The operator's name for this type of machine; empty if not set.
        machine: The host's name. In a container that is the container's, unless it is given another.
    """

    name: str
    kind: str = ""
    machine: str = Factory(lambda self: self.name, takes_self=True)

    def reallocate(self, reason: str) -> None:
        """See `Node.reallocate`. Only logs the reason."""
        log.error("node.declared_unfit", reason=reason)

    def set_deletion_cost(self, cost: int) -> None:
        """See `Node.set_deletion_cost`. Does nothing."""


def this_node(*, kind: str, salad_machine_id: str = "", retry: Retrier) -> Node:
    """Return the node that this process runs on, with a name of its own: MACHINE-PID-RANDOM.

    Args:
        kind: The operator's name for this type of machine; empty if not set.
        salad_machine_id: The machine's id on SaladCloud, which sets SALAD_MACHINE_ID; empty on any other host.
        retry: Retries calls to the platform.
    """
    suffix = f"{os.getpid()}-{secrets.token_hex(3)}"
    if salad_machine_id:
        return SaladNode(f"{salad_machine_id}-{suffix}", kind, machine=salad_machine_id, retry=retry)
    host = socket.gethostname()
    return LocalNode(f"{host}-{suffix}", kind, machine=host)


if TYPE_CHECKING:

    def _conforms(node: LocalNode) -> Node:
        return node
