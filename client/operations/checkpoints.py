"""A job's checkpoints: those that its record or a pin names, pinning them, and going back to one."""

from collections.abc import Iterator

from attrs import frozen

from client.config.environment import Environment
from client.records.reader import read_job
from lifecycle.errors import PermanentError, RetryableError
from lifecycle.job_record import CheckpointRef, JobRecord, iso
from lifecycle.record.pins import BY_OPERATOR, BY_WORKLOAD, Pin, list_pins, put_pin, remove_pin

PREVIOUS = "previous"


@frozen
class KnownCheckpoint:
    """A committed checkpoint that is kept.

    Attributes:
        ref: The checkpoint.
        roles: What it is to the job: `current`, `fallback`, `suspect`, `announced`, `proven`, `pinned`, `milestone`.
    """

    ref: CheckpointRef
    roles: tuple[str, ...]


def known_checkpoints(record: JobRecord, pins: list[Pin]) -> list[KnownCheckpoint]:
    """Return the checkpoints that *record* or one of *pins* names, in order of their numbers."""
    found: dict[int, tuple[CheckpointRef, list[str]]] = {}
    for role, ref in _named(record, pins):
        roles = found.setdefault(ref.seq, (ref, []))[1]
        roles.append(role)
    return [KnownCheckpoint(ref, tuple(roles)) for _, (ref, roles) in sorted(found.items())]


def _named(record: JobRecord, pins: list[Pin]) -> Iterator[tuple[str, CheckpointRef]]:
    for role, ref in (
        ("current", record.checkpoint),
        ("fallback", record.fallback),
        *(("suspect", suspect) for suspect in record.suspects),
        ("announced", record.announced),
        ("proven", record.proven),
    ):
        if ref:
            yield role, ref
    for pin in pins:
        yield "milestone" if pin.by == BY_WORKLOAD else "pinned", pin.ref


def find_checkpoint(known: list[KnownCheckpoint], seq: int) -> CheckpointRef:
    """Return the checkpoint with the number *seq*.

    Raises:
        PermanentError: There is none; the message names those that are kept.
    """
    for one in known:
        if one.ref.seq == seq:
            return one.ref
    numbers = ", ".join(str(one.ref.seq) for one in known) or "none"
    raise PermanentError(f"has no checkpoint {seq}; those that are kept: {numbers}")


def select_checkpoint(record: JobRecord, pins: list[Pin], wanted: str) -> CheckpointRef:
    """Return the checkpoint that an operator wants a job to go on from.

    Args:
        record: The job's record.
        pins: The job's pins.
        wanted: PREVIOUS, or the number of a checkpoint.

    Raises:
        PermanentError: There is no such checkpoint.
    """
    known = known_checkpoints(record, pins)
    if wanted != PREVIOUS:
        return find_checkpoint(known, int(wanted))
    current = record.checkpoint.seq if record.checkpoint else record.mark.seq + 1
    earlier = [one.ref for one in known if one.ref.seq < current and one.ref not in record.suspects]
    if not earlier:
        raise PermanentError("has no previous checkpoint: use --from-start to begin from the input")
    return earlier[-1]


def pin_checkpoint(env: Environment, job: str, seq: int) -> None:
    """Pin a checkpoint, so that it is kept for good. Safe to repeat.

    Raises:
        PermanentError: The job or the checkpoint does not exist, or was removed meanwhile; it is not pinned.
        RetryableError: It may be pinned or not.
    """
    keys = env.layout.job(job)
    pins = list_pins(env.store, keys)
    ref = find_checkpoint(known_checkpoints(read_record(env, job), pins), seq)
    put_pin(env.store, keys, Pin(ref, BY_OPERATOR, iso(env.clock.now())))
    others = [pin for pin in pins if pin.ref.seq != seq]
    is_pinned_already = len(others) < len(pins)
    if is_pinned_already or ref in [one.ref for one in known_checkpoints(read_record(env, job), others)]:
        return
    remove_pin(env.store, keys, seq)  # a collection that began before the pin may have removed it
    raise PermanentError(f"no longer has checkpoint {seq}: a newer one took its place just now")


def unpin_checkpoint(env: Environment, job: str, seq: int) -> None:
    """Remove the pin of a checkpoint. A later commit of the job removes the checkpoint, unless it is kept anyway.

    Raises:
        PermanentError: It is not pinned.
        RetryableError: The bucket cannot be reached.
    """
    keys = env.layout.job(job)
    if all(pin.ref.seq != seq for pin in list_pins(env.store, keys)):
        raise PermanentError(f"checkpoint {seq} is not pinned")
    remove_pin(env.store, keys, seq)


def read_record(env: Environment, job: str) -> JobRecord:
    """Return the record of *job*, live or archived.

    Raises:
        PermanentError: There is none.
        RetryableError: It cannot be read.
    """
    found = read_job(env, job)
    if found.stored is None:
        raise (RetryableError if found.is_transient else PermanentError)(found.problem or "cannot be read")
    return found.stored.record
