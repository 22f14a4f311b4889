"""`holdfast checkpoints JOB`: list the checkpoints that are kept; pin and unpin them."""

import json
from typing import Any

import click

from client import options
from client.config.environment import Environment
from client.operations.checkpoints import (
    KnownCheckpoint,
    known_checkpoints,
    pin_checkpoint,
    read_record,
    unpin_checkpoint,
)
from client.views.job_json import seconds_since
from client.views.output import say
from client.views.text import format_duration, format_size
from lifecycle.record.pins import list_pins

COLUMNS = ("number", "quality", "step", "size", "age", "what it is")


def run(env: Environment, job: str, *, pin: int | None = None, unpin: int | None = None, as_json: bool = False) -> int:
    """Pin or unpin a checkpoint of *job*, if asked to; then list those that are kept.

    Args:
        env: The environment of the job.
        job: The job's id.
        pin: Number of a checkpoint to keep for good.
        unpin: Number of a checkpoint to keep no longer.
        as_json: Print JSON, one object per line.

    Returns:
        0.

    Raises:
        PermanentError: The job or the checkpoint does not exist.
        RetryableError: The bucket cannot be reached.
    """
    record = read_record(env, job)
    if pin is not None:
        pin_checkpoint(env, job, pin)
    if unpin is not None:
        unpin_checkpoint(env, job, unpin)
    known = known_checkpoints(record, list_pins(env.store, env.layout.job(job)))
    if as_json:
        for one in known:
            say(json.dumps(checkpoint_object(one)))
        return 0
    rows = [COLUMNS, *(_cells(one) for one in known)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if known else []:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    say(f"{len(known)} checkpoints of {job}")
    return 0


def checkpoint_object(one: KnownCheckpoint) -> dict[str, Any]:
    """Return a checkpoint as a JSON object."""
    ref = one.ref
    return {
        "seq": ref.seq,
        "quality": ref.quality,
        "step": ref.step,
        "bytes": ref.bytes,
        "age_s": seconds_since(ref.at),
        "computed_s": ref.computed_s,
        "roles": list(one.roles),
        "manifest": ref.manifest,
    }


def _cells(one: KnownCheckpoint) -> tuple[str, ...]:
    ref, age_s = one.ref, seconds_since(one.ref.at)
    return (
        str(ref.seq),
        ref.quality or "unknown",
        "" if ref.step is None else str(ref.step),
        format_size(ref.bytes),
        format_duration(age_s),
        ", ".join(one.roles),
    )


@options.command(
    "checkpoints",
    ("holdfast checkpoints md-1", "List the checkpoints of a job that are kept."),
    ("holdfast checkpoints md-1 --pin 12", "Keep checkpoint 12 for good."),
)
@options.job_argument
@click.option("--pin", metavar="N", type=options.COUNT, help="Keep checkpoint N for good.")
@click.option("--unpin", metavar="N", type=options.COUNT, help="Keep checkpoint N no longer.")
@options.json_option
def command(*, job: str, pin: int | None, unpin: int | None, as_json: bool) -> int:
    """List the checkpoints of a job that are kept; pin them."""
    return run(options.environment(), job, pin=pin, unpin=unpin, as_json=as_json)
