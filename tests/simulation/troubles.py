"""Faults that happen at a moment: to a node, the queue or the bucket, or by an operator."""

from typing import TYPE_CHECKING

from simulation.faults import RECEIVER_DOWN, SPOILING, Fault
from simulation.operators import COMMANDS, JOB_ACTIONS

from lifecycle.key_layout import epoch_of

if TYPE_CHECKING:
    from simulation.history import History, SimulatedNode


class Troubles:
    """Inflicts faults on a history.

    Args:
        history: The history.
    """

    def __init__(self, history: "History") -> None:
        self._history = history
        self._world = history.world
        self._checker = history.checker

    def bring(self, fault: Fault) -> None:
        """Inflict *fault*."""
        history = self._history
        history.counts[fault.what] += 1
        if fault.what in {"message dropped", "message doubled", "receipts expired"}:
            self._upset_queue(fault)
        elif fault.what in SPOILING:
            self._spoil(fault)
        elif fault.what in COMMANDS:
            job = f"job{int(fault.pick * len(self._checker.planned))}"
            history.operators.run(fault.what, job if fault.what in JOB_ACTIONS else "")
        elif fault.what == RECEIVER_DOWN:
            self._world.tell("receiver", str(fault))
            history.notifier.down_until = max(history.notifier.down_until, self._world.time + fault.lasts_s)
        elif history.nodes:
            self._upset_node(history.nodes[int(fault.pick * len(history.nodes))], fault)

    def _upset_queue(self, fault: Fault) -> None:
        hit = self._history.queue.trouble(fault.what, fault.pick)
        self._world.tell("", f"{fault}: {hit}")
        if hit and fault.what == "message dropped":
            self._checker.unannounced.add(hit)

    def _upset_node(self, node: "SimulatedNode", fault: Fault) -> None:
        self._world.tell(node.process.name, str(fault))
        until = self._world.time + fault.lasts_s
        if fault.what == "crash":
            self._history.crash(node)
            return
        self._checker.troubled(node.process, fault.lasts_s)
        match fault.what:
            case "hang":
                node.process.asleep_until = until
            case "drain":
                node.worker.drain()
            case "cut off from the queue":
                node.road.cut["queue"] = until
            case "cut off from the store":
                node.road.cut["store"] = until
            case "cut off from both":
                node.road.cut = {"queue": until, "store": until}
            case "credentials denied":
                node.road.denied_until = until
            case "disk full":
                node.road.full_until = until

    def _spoil(self, fault: Fault) -> None:
        stored = sorted(key for key in self._history.store._objects if epoch_of(key) is not None)
        if stored:
            key = stored[int(fault.pick * len(stored))]
            self._world.tell("", f"{fault}: {key}")
            self._checker.spoilt.add(key)
            self._checker.truth.ever_spoilt.add(key)
            self._history.store.spoil(key, fault.what, fault.pick)
