"""`holdfast verify JOB`: reads what is committed back, all of it, and proves that it is what was committed."""

import sys
from collections.abc import Sequence
from typing import Final

from client.commands.storage import human
from client.config.composition import Environment
from client.records.reader import Found, read_all
from client.views.progress import bar
from lifecycle.checkpoint.restore import fetch_manifest, verify
from lifecycle.errors import HoldfastError
from lifecycle.job_record import CheckpointRef

KINDS: Final = ("checkpoint", "fallback", "result")


def run(env: Environment, jobs: Sequence[str]) -> int:
    """Verify the last checkpoint, the one before, and the result of each job.

    Returns:
        0; 1 if anything is missing, damaged or unreadable, each such thing being named on stderr.
    """
    wrong = 0
    for found in read_all(env, jobs):
        if found.stored is None:
            print(f"holdfast: {found.problem}", file=sys.stderr)
            wrong += 1
            continue
        for kind, ref in _refs(found):
            try:
                print(f"{found.job}: {kind} {ref.seq} is right: {_verified(env, ref)}")
            except HoldfastError as error:
                print(f"holdfast: {found.job}: {kind} {ref.seq}: {error}", file=sys.stderr)
                wrong += 1
    return int(bool(wrong))


def _refs(found: Found) -> list[tuple[str, CheckpointRef]]:
    record = found.stored.record if found.stored else None
    if record is None:
        return []
    refs = (record.checkpoint, record.fallback, record.result.manifest if record.result else None)
    return [(kind, ref) for kind, ref in zip(KINDS, refs, strict=True) if ref]


def _verified(env: Environment, ref: CheckpointRef) -> str:
    manifest = fetch_manifest(env.store, ref)
    with bar("verifying", manifest.bytes) as advance:
        verify(env.store, env.clock, manifest, progress=advance)
    return f"{len(manifest.files)} files, {human(manifest.bytes)}, in {len(manifest.packs)} packs"
