"""If a node dies between any two effects of a transition, the next worker completes the rest."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from support.cluster import LAYOUT, Cluster
from support.fault_injection import Died, FaultInjection, FaultyNode, unless_dead

from lifecycle.attempt.effects import AttemptEffects
from lifecycle.errors import RetryableError
from lifecycle.job_record import Control
from lifecycle.machine import Event
from lifecycle.ports.queue import Depth
from lifecycle.states import EDGES, Effect, State, Trigger

RECORD = LAYOUT.job("a").record
SUM = "45150"


@define
class Scenario:
    """A first worker that makes a transition, and the job's final state after a second worker."""

    worker: dict[str, Any] = field(factory=dict)
    is_cancelled: bool = False
    fails_uploads: bool = False
    final_state: State = State.COMPLETED


SCENARIOS = {
    Trigger.CHECKPOINT: Scenario(),
    Trigger.COMMIT: Scenario(),
    Trigger.ABANDON: Scenario(fails_uploads=True),
    Trigger.COMPLETE: Scenario(),
    Trigger.PAUSE: Scenario({"max_running_time": timedelta(seconds=100)}),
    Trigger.RELEASE: Scenario({"script": lambda _, step: 75 if step == 150 else None, "max_jobs": 1}),
    Trigger.FAIL: Scenario({"script": lambda _, step: 65 if step == 150 else None}, final_state=State.FAILED),
    Trigger.CANCEL: Scenario(is_cancelled=True, final_state=State.CANCELLED),
}


def crash_points() -> list[tuple[Trigger, Effect, str]]:
    """Return every crash point: instead of each effect of a living attempt's transitions, and after the last."""
    points: dict[tuple[Trigger, Effect, str], None] = {}
    for edge in EDGES:
        if edge.trigger in SCENARIOS and not edge.by_operator:
            effects = (*edge.before_record, *edge.after_record)
            for effect in effects:
                points[edge.trigger, effect, "instead of"] = None
            if effects:
                points[edge.trigger, effects[-1], "after"] = None
    return list(points)


def test_every_transition_with_effects_has_a_scenario() -> None:
    """Every trigger with effects has a scenario, except `supersede`, after which the attempt does nothing more."""
    with_effects = {
        edge.trigger for edge in EDGES if (edge.before_record or edge.after_record) and not edge.by_operator
    }
    assert with_effects - {Trigger.SUPERSEDE} == set(SCENARIOS)


@pytest.mark.parametrize(("trigger", "effect", "when"), crash_points(), ids=str)
def test_race_crash_between_effects(
    trigger: Trigger, effect: Effect, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash the job reaches its final state, completed outputs are published, and no message is left."""
    scenario, cluster = SCENARIOS[trigger], Cluster(tmp_path)
    cluster.submit("a")
    if scenario.is_cancelled:
        stored = cluster.stored("a")
        cluster.record_store.write(RECORD, evolve(stored.record, control=Control(cancel=True)), stored.version)
    node = FaultyNode(cluster.clock)
    perform = getattr(AttemptEffects, effect.value)

    def die(attempt: AttemptEffects, event: Event) -> None:
        is_here = event.event.name == trigger and not node.dead
        if is_here and when == "instead of":
            node.dead = True
            raise Died
        perform(attempt, event)
        if is_here:
            node.dead = True
            raise Died

    def refuse(name: str, *args: Any, **_: Any) -> None:
        if scenario.fails_uploads and name == "put" and "/packs/" in str(args[0]):
            raise RetryableError("503, on purpose")

    monkeypatch.setattr(AttemptEffects, effect.value, die)
    store = node.around(FaultInjection(cluster.memory, before=refuse))
    first = cluster.worker(store=store, queue=node.around(cluster.queue), clock=node.clock(), **scenario.worker)
    assert cluster.clock.start_thread(unless_dead(first.run), name="first").join(5000)
    assert node.dead, "the scenario never reached this effect"
    second = cluster.worker(
        idle_exit=timedelta(minutes=15),
        script=scenario.worker.get("script") if scenario.final_state is State.FAILED else None,
    )
    assert cluster.clock.start_thread(unless_dead(second.run), name="second").join(20000)
    record = cluster.record("a")
    assert record.state is scenario.final_state
    assert record.is_settled
    assert record.owner is None
    assert cluster.output("a") == (SUM if scenario.final_state is State.COMPLETED else None)
    assert cluster.queue.depth() == Depth(0, 0, 0)
