"""A late message of a finished job starts it again."""

from simulation.checker import NOTHING_BREAKS, ONE_WINNER

import lifecycle.attempt.worker
from lifecycle.record.claiming import ClaimAction, ClaimDecision

FOUND_AS = (ONE_WINNER, NOTHING_BREAKS)


def install() -> None:
    decide = lifecycle.attempt.worker.decide

    def forgetful(message, stored, rng, **more):
        decision = decide(message, stored, rng, **more)
        over = decision.action is ClaimAction.DISCARD and stored is not None and stored.record.is_final
        return ClaimDecision(ClaimAction.TAKE, "why not") if over else decision

    lifecycle.attempt.worker.decide = forgetful
