"""A late message of a finished job starts it again."""

from random import Random
from typing import Any

from simulation.checker import NOTHING_BREAKS, ONE_WINNER
from simulation.mutants import replace

import lifecycle.attempt.worker
from lifecycle.record.claiming import ClaimAction, ClaimDecision, decide
from lifecycle.record.message import JobMessage
from lifecycle.record.record_store import StoredRecord

FOUND_AS = (ONE_WINNER, NOTHING_BREAKS)


def install() -> None:
    def forgetful(message: JobMessage, stored: StoredRecord | None, rng: Random, **more: Any) -> ClaimDecision:
        decision = decide(message, stored, rng, **more)
        over = decision.action is ClaimAction.DISCARD and stored is not None and stored.record.is_final
        return ClaimDecision(ClaimAction.TAKE, "why not") if over else decision

    replace(lifecycle.attempt.worker, "decide", forgetful)
