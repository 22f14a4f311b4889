"""A message whose job is owned is hidden for ten leases, so the job waits long after its owner has died."""

from random import Random
from typing import Any

from attrs import evolve
from simulation.mutants import replace
from simulation.truth import TAKEN_SOON

import lifecycle.attempt.worker
from lifecycle.record.claiming import ClaimAction, ClaimDecision, decide

FOUND_AS = (TAKEN_SOON,)


def install() -> None:
    def patient(message: Any, stored: Any, rng: Random, **more: Any) -> ClaimDecision:
        decision = decide(message, stored, rng, **more)
        return evolve(decision, delay=10 * decision.delay) if decision.action is ClaimAction.RELEASE else decision

    replace(lifecycle.attempt.worker, "decide", patient)
