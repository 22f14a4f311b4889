"""A retried job is still to be cancelled."""

from typing import Any

from attrs import evolve
from simulation.checker import CANCEL
from simulation.mutants import replace

import client.operations.job_control
from lifecycle.job_record import JobRecord
from lifecycle.record.operator_changes import reopened

FOUND_AS = (CANCEL,)


def install() -> None:
    def keeping(record: JobRecord, **kwargs: Any) -> JobRecord:
        return evolve(reopened(record, **kwargs), control=record.control)

    replace(client.operations.job_control, "reopened", keeping)
