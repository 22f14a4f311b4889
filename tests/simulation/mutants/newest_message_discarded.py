"""Workers discard the message with the record's current sequence number, not only older ones."""

from random import Random
from typing import Any

from simulation.checker import MESSAGE
from simulation.mutants import replace

import lifecycle.attempt.worker
from lifecycle.record.claiming import ClaimAction, ClaimDecision, decide
from lifecycle.record.message import JobMessage
from lifecycle.record.record_store import StoredRecord

FOUND_AS = (MESSAGE,)


def install() -> None:
    def strict(message: JobMessage, stored: StoredRecord | None, rng: Random, **more: Any) -> ClaimDecision:
        if stored is not None and not stored.record.is_final and message.sequence <= stored.record.dispatch > 1:
            return ClaimDecision(ClaimAction.DISCARD, "numbered")
        return decide(message, stored, rng, **more)

    replace(lifecycle.attempt.worker, "decide", strict)
