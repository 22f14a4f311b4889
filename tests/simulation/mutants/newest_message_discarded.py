"""Workers discard the message with the record's current sequence number, not only older ones."""

from simulation.checker import MESSAGE

import lifecycle.attempt.worker
from lifecycle.record.claiming import ClaimAction, ClaimDecision

FOUND_AS = (MESSAGE,)


def install() -> None:
    decide = lifecycle.attempt.worker.decide

    def strict(message, stored, rng, **more):
        if stored is not None and not stored.record.is_final and message.sequence <= stored.record.dispatch > 1:
            return ClaimDecision(ClaimAction.DISCARD, "numbered")
        return decide(message, stored, rng, **more)

    lifecycle.attempt.worker.decide = strict
