"""Receivers drop the message that the record numbers, and not only older ones."""

from simulation.checker import MESSAGE

import lifecycle.attempt.worker
from lifecycle.record.claiming import Judgement, Verdict

FOUND_AS = (MESSAGE,)


def install() -> None:
    judge = lifecycle.attempt.worker.judge

    def strict(call, held, rng, **more):
        if held is not None and not held.record.is_final and call.dispatch <= held.record.dispatch > 1:
            return Judgement(Verdict.DISCARD, "numbered")
        return judge(call, held, rng, **more)

    lifecycle.attempt.worker.judge = strict
