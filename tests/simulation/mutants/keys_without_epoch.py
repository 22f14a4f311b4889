"""All attempts use the same checkpoint keys, so a zombie overwrites its successor's."""

from simulation.checker import ALL_THERE, FENCE
from simulation.mutants import replace

from lifecycle.key_layout import JobKeys

FOUND_AS = (FENCE, ALL_THERE)


def install() -> None:
    manifest, pack = JobKeys.manifest, JobKeys.pack
    replace(JobKeys, "manifest", lambda self, epoch, seq, token: manifest(self, 1, seq, "same"))
    replace(JobKeys, "pack", lambda self, epoch, number, token: pack(self, 1, number, "same"))
