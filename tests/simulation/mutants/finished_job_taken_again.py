"""A late message of a job that is over starts it again."""

from simulation.checker import NOTHING_BREAKS, ONE_WINNER

import lifecycle.attempt.worker
from lifecycle.record.claiming import Judgement, Verdict

FOUND_AS = (ONE_WINNER, NOTHING_BREAKS)


def install() -> None:
    judge = lifecycle.attempt.worker.judge

    def forgetful(call, held, rng, **more):
        judgement = judge(call, held, rng, **more)
        over = judgement.verdict is Verdict.DISCARD and held is not None and held.record.is_final
        return Judgement(Verdict.TAKE, "why not") if over else judgement

    lifecycle.attempt.worker.judge = forgetful
