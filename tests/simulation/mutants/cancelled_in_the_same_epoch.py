"""Cancelling a job without an owner begins no epoch, so an owner that was only thought to be gone reopens it."""

from typing import Any

from attrs import evolve
from simulation.checker import CANCEL, FENCE, ONE_WINNER
from simulation.mutants import replace
from simulation.notifier import TOLD

import client.operations.job_control
from lifecycle.job_record import JobRecord
from lifecycle.record.operator_changes import cancelled
from lifecycle.record.record_store import StoredRecord

FOUND_AS = (CANCEL, FENCE, ONE_WINNER, TOLD)


def install() -> None:
    def same_epoch(stored: StoredRecord, *args: Any, **kwargs: Any) -> JobRecord:
        return evolve(cancelled(stored, *args, **kwargs), epoch=stored.record.epoch)

    replace(client.operations.job_control, "cancelled", same_epoch)
