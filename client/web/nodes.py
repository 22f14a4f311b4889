"""The nodes, as far as records tell of them: those that own a job. An idle worker writes nothing."""

from attrs import define, field, frozen

from client.commands.status import is_stale
from client.records.record_index import Query, RecordIndex
from lifecycle.record.record_store import StoredRecord
from lifecycle.states import OWNED, State

OWNED_JOBS: Query = Query(states=[state for state in State if state in OWNED])


@define
class NodeSummary:
    """A node: what kind of machine, its jobs, seconds since it was last heard of, and whether it is within a lease."""

    name: str
    kind: str = ""
    jobs: list[StoredRecord] = field(factory=list)
    heard_s: float = float("inf")
    is_alive: bool = False

    @property
    def rate(self) -> float | None:
        """Steps a second of all its jobs; None if none of them says."""
        rates = [stored.record.progress.rate for stored in self.jobs if stored.record.progress.rate is not None]
        return sum(rates) if rates and self.is_alive else None


@frozen
class Nodes:
    """All of them, those that are alive first; how many are, and their steps a second."""

    found: list[NodeSummary]

    @property
    def alive(self) -> int:
        """How many are within a lease."""
        return sum(node.is_alive for node in self.found)

    @property
    def rate(self) -> float:
        """Steps a second of all."""
        return sum(node.rate or 0.0 for node in self.found)

    @property
    def kinds(self) -> list[tuple[str, int, float]]:
        """Of each kind of machine that is said: its name, how many are alive, and their steps a second a node."""
        alive: dict[str, list[float]] = {}
        for node in self.found:
            if node.is_alive and node.kind:
                alive.setdefault(node.kind, []).append(node.rate or 0.0)
        return [(kind, len(rates), sum(rates) / len(rates)) for kind, rates in sorted(alive.items())]


def nodes_of(index: RecordIndex) -> Nodes:
    """Who owns jobs, by the index."""
    nodes: dict[str, NodeSummary] = {}
    for found in index.jobs(OWNED_JOBS):
        if found.stored is None or found.stored.record.owner is None:
            continue
        node = nodes.setdefault(found.stored.record.owner, NodeSummary(found.stored.record.owner))
        node.jobs.append(found.stored)
        node.kind = found.stored.record.attempts[-1].kind if found.stored.record.attempts else node.kind
        node.heard_s = min(node.heard_s, found.stored.age_s)
        node.is_alive = node.is_alive or not is_stale(found.stored)
    return Nodes(sorted(nodes.values(), key=lambda node: (not node.is_alive, node.name)))
