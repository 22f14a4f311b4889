"""A file that the program writes to through memory is linked like any other: its times never show a write."""

from simulation.checker import ALL_THERE, NOTHING_BREAKS
from simulation.mutants import replace

from lifecycle.attempt.file_captures import FileCaptures

FOUND_AS = (ALL_THERE, NOTHING_BREAKS)


def install() -> None:
    replace(FileCaptures, "_may_change", lambda *_: False)
