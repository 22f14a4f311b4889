"""`holdfast verify JOB…`: read checkpoints and results back, and verify each byte."""

from collections.abc import Sequence
from typing import Final

import click

from client import options
from client.config.environment import Environment
from client.operations.checkpoints import find_checkpoint, known_checkpoints
from client.records.reader import Lookup, read_all
from client.views.json_text import to_json
from client.views.output import complain, say
from client.views.progress import progress_bar
from client.views.text import format_size
from lifecycle.checkpoint.restore import fetch_manifest, verify
from lifecycle.errors import HoldfastError
from lifecycle.job_record import CheckpointRef, JobRecord
from lifecycle.record.pins import list_pins

KINDS: Final = ("checkpoint", "fallback", "result")


def run(env: Environment, jobs: Sequence[str], *, checkpoint: int | None = None, as_json: bool = False) -> int:
    """Verify the last checkpoint, the one before it, and the result of each job.

    Args:
        env: The environment of the jobs.
        jobs: Their ids.
        checkpoint: Verify only the checkpoint with this number, which may be an older one that is kept.
        as_json: Print JSON, one object per checkpoint or result.

    Returns:
        0; 1 if anything is missing, damaged or unreadable, which stderr names.
    """
    problems = 0
    for found in read_all(env, jobs):
        if found.stored is None:
            complain(found.problem or found.job)
            problems += 1
            continue
        try:
            refs = _refs(found) if checkpoint is None else _kept(env, found.stored.record, checkpoint)
        except HoldfastError as error:
            complain(f"{found.job}: {error}")
            problems += 1
            continue
        for kind, ref in refs:
            shown, problem = "", None
            try:
                shown = _verify(env, ref)
            except HoldfastError as error:
                problem = str(error)
                problems += 1
            if as_json:
                say(to_json({"job": found.job, "kind": kind, "seq": ref.seq, "problem": problem}))
            elif problem is None:
                say(f"{found.job}: {kind} {ref.seq} is intact: {shown}")
            else:
                complain(f"{found.job}: {kind} {ref.seq}: {problem}")
    return int(bool(problems))


def _refs(found: Lookup) -> list[tuple[str, CheckpointRef]]:
    record = found.stored.record if found.stored else None
    if record is None:
        return []
    refs = (record.checkpoint, record.fallback, record.result.manifest if record.result else None)
    return [(kind, ref) for kind, ref in zip(KINDS, refs, strict=True) if ref]


def _kept(env: Environment, record: JobRecord, seq: int) -> list[tuple[str, CheckpointRef]]:
    """Return the checkpoint of a job with the number *seq*, which may be an older one."""
    known = known_checkpoints(record, list_pins(env.store, env.layout.job(record.job)))
    return [("checkpoint", find_checkpoint(known, seq))]


def _verify(env: Environment, ref: CheckpointRef) -> str:
    """Verify a manifest's files, and return their number and size for people."""
    manifest = fetch_manifest(env.store, ref)
    with progress_bar("verifying", manifest.bytes) as advance:
        verify(env.store, env.clock, manifest, progress=advance)
    return f"{len(manifest.files)} files, {format_size(manifest.bytes)}, in {len(manifest.packs)} packs"


@options.command(
    "verify",
    ("holdfast verify md-1", "Verify the checkpoints and the result of a job."),
    ("holdfast verify 'md-*'", "Verify those of all jobs whose ids match."),
)
@options.jobs_argument
@options.label_filter
@click.option("--checkpoint", metavar="N", type=options.COUNT, help="Only checkpoint N, which may be an older one.")
@options.json_option
def command(*, jobs: Sequence[str], labels: Sequence[str], checkpoint: int | None, as_json: bool) -> int:
    """Read checkpoints and results back, and verify each byte."""
    env = options.environment()
    return run(env, options.selected(env, jobs, labels), checkpoint=checkpoint, as_json=as_json)
