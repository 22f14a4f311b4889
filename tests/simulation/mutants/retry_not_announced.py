"""A retry reports success, and its message was never sent."""

from simulation.checker import MESSAGE
from simulation.mutants import replace

import client.operations.job_control
from lifecycle.states import Effect

FOUND_AS = (MESSAGE,)


def install() -> None:
    replace(client.operations.job_control, "EFFECTS", {Effect.ANNOUNCE_JOB: lambda *_: None})
