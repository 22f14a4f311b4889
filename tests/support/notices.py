"""A notice with all its fields, and the job that it is about."""

from typing import Final

from lifecycle.key_layout import JobKeys, KeyLayout
from lifecycle.outbox import Notice
from lifecycle.states import State

KEYS: Final[JobKeys] = KeyLayout("runs").job("md-7")
NOTICE: Final = Notice(
    id="md-7:3:2:5f0c9a1e",
    epoch=3,
    number=2,
    state=State.RELEASED,
    at="2030-01-01T00:00:00.000+00:00",
    node="gpu-4711",
    cause="workload_failed",
    error="exited with 3: \u201cXid 79\u201d",
    done=700,
    total=1000,
    missed=2,
)
