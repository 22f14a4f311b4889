"""Faults that happen at a moment: to a node, the queue or the bucket, or by an operator."""

import contextlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from simulation.checker import LAYOUT, OPERATOR
from simulation.faults import RECEIVER_DOWN, SPOILING, Fault
from simulation.ports import Road
from simulation.world import Process, WorldClock

from adapters.retrying import RetryingQueue, RetryingStore
from adapters.webhook import RetryingNotifier
from client.commands import reconcile
from client.config.environment import Environment
from client.config.settings import from_environ
from client.operations import job_control as control
from client.operations.notices import NoticeDelivery, deliver_notices
from client.operations.reconciliation import find_pending, send_missing
from client.records.reader import read_all
from lifecycle.errors import HoldfastError
from lifecycle.key_layout import epoch_of
from lifecycle.record.notifications import NotificationPolicy
from lifecycle.record.record_store import RecordStore

if TYPE_CHECKING:
    from simulation.history import History, SimulatedNode

ACTS: dict[str, Callable[[Environment, str], str]] = {"cancel": control.cancel, "retry": control.retry}


class Troubles:
    """Inflicts faults on a history.

    Args:
        history: The history.
    """

    def __init__(self, history: "History") -> None:
        self._history = history
        self._world = history.world
        self._checker = history.checker
        self._operator = Road(
            history.world, Process(OPERATOR), history.checker, mishap=lambda _: None, crash=lambda: None
        )

    def bring(self, fault: Fault) -> None:
        """Inflict *fault*."""
        history = self._history
        history.counts[fault.what] += 1
        if fault.what in {"message dropped", "message doubled", "receipts expired"}:
            self._upset_queue(fault)
        elif fault.what in SPOILING:
            self._spoil(fault)
        elif fault.what in ACTS:
            job = f"job{int(fault.pick * len(self._checker.planned))}"
            self._world.spawn(self._operator.process, lambda: self._operate(fault.what, job), name=fault.what)
        elif fault.what == "reconcile":
            self.reconcile()
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
            self._history.store.spoil(key, fault.what, fault.pick)

    # ---- operators ----

    def _operate(self, what: str, job: str) -> None:
        try:
            env = self._env(self._operator)
            self._world.tell(OPERATOR, f"{what} {job}: {ACTS[what](env, job)}")
            self._checker.unannounced.discard(job)
            if env.notification_policy:
                NoticeDelivery(env, env.notification_policy).deliver(job)
        except HoldfastError as error:
            self._world.tell(OPERATOR, f"{what} {job}: {error}")

    def reconcile(self) -> None:
        """Run `holdfast reconcile` between two events, without threads, which the simulation does not allow.

        In a store without ages it waits for a lease, so other events happen meanwhile.
        """
        self._world.tell(OPERATOR, "reconcile")
        if self._history.kind.clockless:
            self._world.spawn(self._operator.process, self._reconcile_slowly, name="reconcile")
            return
        with (
            self._checker.acting(self._operator.process),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            reconcile.run(self._env(None), older=self._history.limits.lease, dry_run=False, as_json=False)

    def _reconcile_slowly(self) -> None:
        env = self._env(self._operator)
        try:
            pending = find_pending(env, read_all(env), self._history.limits.lease, dry_run=False)
            list(send_missing(env, pending.missing))
            if pending.undelivered:
                deliver_notices(env, pending.undelivered)
        except HoldfastError as error:
            self._world.tell(OPERATOR, f"reconcile: {error}")

    def _env(self, road: Road | None) -> Environment:
        history, clock = self._history, WorldClock(self._world, road.process if road else None)
        store: Any = RetryingStore(road.to(history.store, "store"), clock) if road else history.store
        queue: Any = RetryingQueue(road.to(history.queue, "queue"), clock) if road else history.queue
        notifier: Any = RetryingNotifier(road.to(history.notifier, "notifier"), clock) if road else history.notifier
        return Environment(
            settings=from_environ({}, None),
            clock=clock,
            queue=queue,
            store=store,
            record_store=RecordStore(store, clock, self._world.rng),
            layout=LAYOUT,
            bucket="",
            limits=history.limits,
            notification_policy=NotificationPolicy(notifier) if history.kind.webhooks else None,
        )


class Inline:
    """A thread pool without threads."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, call: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        return map(call, items)

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*args))
        return done
