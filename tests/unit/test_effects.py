"""A node that dies between any two effects of a transition: the next worker makes up for what is missing."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from support.cluster import LAYOUT, Cluster
from support.fault_injection import Died, Fate, FaultInjection, unless_dead

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
    """A first worker that makes a transition, and the state in which the job ends after a second one."""

    worker: dict[str, Any] = field(factory=dict)
    is_cancelled: bool = False
    fails_uploads: bool = False
    ends: State = State.COMPLETED


SCENARIOS = {
    Trigger.CHECKPOINT: Scenario(),
    Trigger.COMMIT: Scenario(),
    Trigger.ABANDON: Scenario(fails_uploads=True),
    Trigger.COMPLETE: Scenario(),
    Trigger.PAUSE: Scenario({"max_running_time": timedelta(seconds=100)}),
    Trigger.RELEASE: Scenario({"script": lambda _, step: 75 if step == 150 else None, "max_jobs": 1}),
    Trigger.FAIL: Scenario({"script": lambda _, step: 65 if step == 150 else None}, ends=State.FAILED),
    Trigger.CANCEL: Scenario(is_cancelled=True, ends=State.CANCELLED),
}


def deaths() -> list[tuple[Trigger, Effect, str]]:
    """Every place of death: instead of each effect of each transition of a living attempt, and after its last."""
    found: dict[tuple[Trigger, Effect, str], None] = {}
    for edge in EDGES:
        if edge.trigger in SCENARIOS and not edge.by_operator:
            effects = (*edge.before_record, *edge.after_record)
            for effect in effects:
                found[edge.trigger, effect, "instead of"] = None
            if effects:
                found[edge.trigger, effects[-1], "after"] = None
    return list(found)


def test_every_transition_with_effects_has_a_scenario() -> None:
    """Only an attempt that is superseded is left out: it is as good as dead already."""
    with_effects = {
        edge.trigger for edge in EDGES if (edge.before_record or edge.after_record) and not edge.by_operator
    }
    assert with_effects - {Trigger.SUPERSEDE} == set(SCENARIOS)


@pytest.mark.parametrize(("trigger", "effect", "when"), deaths(), ids=str)
def test_race_crash_between_effects(
    trigger: Trigger, effect: Effect, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends as it should, its outputs are published once it is completed, and no message is left."""
    scenario, cluster = SCENARIOS[trigger], Cluster(tmp_path)
    cluster.submit("a")
    if scenario.is_cancelled:
        stored = cluster.stored("a")
        cluster.record_store.write(RECORD, evolve(stored.record, control=Control(cancel=True)), stored.version)
    fate = Fate(cluster.clock)
    perform = getattr(AttemptEffects, effect.value)

    def die(attempt: AttemptEffects, event: Event) -> None:
        is_here = event.event.name == trigger and not fate.dead
        if is_here and when == "instead of":
            fate.dead = True
            raise Died
        perform(attempt, event)
        if is_here:
            fate.dead = True
            raise Died

    def refuse(name: str, *args: Any, **_: Any) -> None:
        if scenario.fails_uploads and name == "put" and "/packs/" in str(args[0]):
            raise RetryableError("503, on purpose")

    monkeypatch.setattr(AttemptEffects, effect.value, die)
    store = fate.around(FaultInjection(cluster.memory, before=refuse))
    first = cluster.worker(store=store, queue=fate.around(cluster.queue), clock=fate.clock(), **scenario.worker)
    assert cluster.clock.start_thread(unless_dead(first.run), name="first").join(5000)
    assert fate.dead, "the scenario never came to this effect"
    second = cluster.worker(
        idle_exit=timedelta(minutes=15), script=scenario.worker.get("script") if scenario.ends is State.FAILED else None
    )
    assert cluster.clock.start_thread(unless_dead(second.run), name="second").join(20000)
    record = cluster.record("a")
    assert record.state is scenario.ends
    assert record.is_settled
    assert record.owner is None
    assert cluster.output("a") == (SUM if scenario.ends is State.COMPLETED else None)
    assert cluster.queue.depth() == Depth(0, 0, 0)
