"""A file that the program writes to through memory is linked, although its times never show a write."""

from simulation.checker import ALL_THERE, NOTHING_BREAKS
from simulation.mutants import replace

from lifecycle.attempt.file_captures import FileCaptures
from lifecycle.checkpoint.survey import FileState
from lifecycle.ports.runner import FilesInUse

FOUND_AS = (ALL_THERE, NOTHING_BREAKS)


def install() -> None:
    real = FileCaptures._may_change

    def may_change(self: FileCaptures, path: str, seen: FileState, used: FilesInUse) -> bool:
        is_mapped = used.is_mapped(self._dirs.root / path, seen.device, seen.inode)
        return not is_mapped and real(self, path, seen, used)

    replace(FileCaptures, "_may_change", may_change)
