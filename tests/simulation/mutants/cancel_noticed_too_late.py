"""An attempt does not look for a request to cancel that was there when it took the job."""

from attrs import evolve
from simulation.checker import CANCEL
from simulation.mutants import replace

from lifecycle.attempt.attempt import Attempt
from lifecycle.attempt.phases import ClaimedJob, FinishedJob
from lifecycle.job_record import Control
from lifecycle.record.record_store import StoredRecord

FOUND_AS = (CANCEL,)


def install() -> None:
    carry_out = Attempt._carry_out

    def _carry_out(self: Attempt, claimed: ClaimedJob) -> FinishedJob:
        stored = claimed.session._stored
        claimed.session._stored = StoredRecord(evolve(stored.record, control=Control()), stored.version, stored.age_s)
        return carry_out(self, claimed)

    replace(Attempt, "_carry_out", _carry_out)
