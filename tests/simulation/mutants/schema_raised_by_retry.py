"""A retry by a newer version raises the schema of the record, so workers of the older one are shut out."""

from typing import Any

from attrs import evolve
from simulation.mutants import replace
from simulation.truth import SCHEMAS

import client.operations.job_control
from lifecycle.job_record import SCHEMA, JobRecord
from lifecycle.record.operator_changes import reopened

FOUND_AS = (SCHEMAS,)


def install() -> None:
    def newer(record: JobRecord, **kwargs: Any) -> JobRecord:
        return evolve(reopened(record, **kwargs), schema=SCHEMA + 1)

    replace(client.operations.job_control, "reopened", newer)
