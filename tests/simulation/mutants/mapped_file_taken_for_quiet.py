"""A file that is mapped for writing counts as quiet while its times do not change."""

from simulation.checker import ALL_THERE, NOTHING_BREAKS, QUALITY
from simulation.mutants import replace

from lifecycle.attempt.file_captures import FileCaptures

FOUND_AS = (QUALITY, ALL_THERE, NOTHING_BREAKS)


def install() -> None:
    replace(FileCaptures, "_note_mapped", lambda *_: False)
