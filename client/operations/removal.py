"""Removing whole jobs: the record first, then everything in the job's folder.

An owner whose record is gone writes no more, so a worker that was presumed dead cannot bring the job back. If the
removal is interrupted, the objects that are left have no record, and a second removal deletes them.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from client.config.environment import Environment
from client.views.action_results import ActionResult
from client.views.text import format_size
from lifecycle.errors import ConfigError, HoldfastError, PermanentError
from lifecycle.key_layout import is_job_id
from lifecycle.record.archive_format import is_archived

DELETE_BATCH: Final = 1000


@frozen
class Removal:
    """The objects that the removal of a job deletes.

    Attributes:
        job: The job's id.
        record: Key of its record; None if it has none.
        objects: Keys of its other objects.
        size_bytes: Their total size.
    """

    job: str
    record: str | None
    objects: Sequence[str]
    size_bytes: int


def plan_removal(env: Environment, job: str) -> Removal:
    """Return what there is of a job.

    Raises:
        PermanentError: The job does not exist, is archived, or is not over yet; nothing may be deleted.
        RetryableError: The bucket cannot be read.
    """
    if not is_job_id(job):
        raise PermanentError("is not a valid job id")
    keys = env.layout.job(job)
    stored = env.record_store.read(keys.record)
    if stored and not stored.record.is_final:
        raise PermanentError(f"is {stored.record.state}: cancel it first")
    if stored and not stored.record.is_settled:
        raise PermanentError("is completed, and a worker has still to publish its outputs: start one, or wait")
    if is_archived(env.store, keys):
        raise PermanentError("is archived: its record is kept in the archive, and its id is never used again")
    listed = [*env.store.list(keys.folder), *env.store.list(keys.pins)]
    if stored is None and not listed:
        raise PermanentError(f"there is no such job under prefix {env.layout.prefix!r}")
    size_bytes = sum(one.size_bytes for one in listed)
    return Removal(job, keys.record if stored else None, [one.key for one in listed], size_bytes)


def plan_each(env: Environment, jobs: Sequence[str]) -> Iterator[Removal | ActionResult]:
    """Yield what there is of each of *jobs*, or the reason why a job cannot be removed.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
    """
    for job in jobs:
        try:
            yield plan_removal(env, job)
        except ConfigError:
            raise
        except HoldfastError as error:
            yield ActionResult(job, problem=str(error))


def remove(env: Environment, job: str) -> str:
    """Delete all that there is of a job. Safe to repeat, and to interrupt.

    The job is looked at again, because it may have been reopened while a person was asked.

    Raises:
        PermanentError: As `plan_removal`.
        RetryableError: The bucket cannot be reached; some objects may be left.
        ConfigError: The bucket or its credentials are wrong.
    """
    removal = plan_removal(env, job)
    if removal.record:
        env.store.delete([removal.record])
    for start in range(0, len(removal.objects), DELETE_BATCH):
        env.store.delete(removal.objects[start : start + DELETE_BATCH])
    return f"removed, {len(removal.objects)} objects, {format_size(removal.size_bytes)}"
