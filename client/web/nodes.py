"""The nodes that own jobs, from the records. An idle worker writes nothing, so it is not seen here."""

from typing import Final

from attrs import define, field, frozen

from client.records.estimates import is_stale
from client.records.query import Query
from client.records.record_index import RecordIndex
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State

OWNED_JOBS: Final = Query(states=[state for state in State if state in OWNED])


@define
class NodeSummary:
    """A node and its jobs.

    Attributes:
        name: The node's name.
        kind: Its kind of machine; empty if unknown.
        jobs: The jobs that it owns.
        heard_s: Seconds since its last sign of life.
        is_alive: The lease of at least one of its jobs is fresh.
    """

    name: str
    kind: str = ""
    jobs: list[StoredRecord] = field(factory=list)
    heard_s: float = float("inf")
    is_alive: bool = False

    @property
    def rate(self) -> float | None:
        """Steps per second of all its jobs; None if unknown or the node is not alive."""
        rates = [stored.record.progress.rate for stored in self.jobs if stored.record.progress.rate is not None]
        return sum(rates) if rates and self.is_alive else None


@frozen
class Nodes:
    """All nodes that own jobs, those alive first."""

    found: list[NodeSummary]

    @property
    def alive(self) -> int:
        """Number of nodes that are alive."""
        return sum(node.is_alive for node in self.found)

    @property
    def rate(self) -> float:
        """Steps per second of all nodes."""
        return sum(node.rate or 0.0 for node in self.found)

    @property
    def kinds(self) -> list[tuple[str, int, float]]:
        """For each kind of machine: its name, the number of nodes that are alive, and their mean steps per second."""
        alive: dict[str, list[float]] = {}
        for node in self.found:
            if node.is_alive and node.kind:
                alive.setdefault(node.kind, []).append(node.rate or 0.0)
        return [(kind, len(rates), sum(rates) / len(rates)) for kind, rates in sorted(alive.items())]


def nodes_of(index: RecordIndex) -> Nodes:
    """Return the nodes that own jobs, by the index."""
    nodes: dict[str, NodeSummary] = {}
    for found in index.jobs(OWNED_JOBS):
        if found.stored is None or found.stored.record.owner is None:
            continue
        node = nodes.setdefault(found.stored.record.owner, NodeSummary(found.stored.record.owner))
        node.jobs.append(found.stored)
        node.kind = found.stored.record.attempts[-1].kind if found.stored.record.attempts else node.kind
        node.heard_s = min(node.heard_s, found.stored.age_s or 0.0)
        node.is_alive = node.is_alive or not is_stale(found.stored)
    return Nodes(sorted(nodes.values(), key=lambda node: (not node.is_alive, node.name)))
