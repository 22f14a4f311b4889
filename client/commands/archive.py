"""`holdfast archive`: the records of jobs that have been over for long, moved out of the live set.

In this order, so that power may fail after any step and the next run finishes what this one began:

1. the segment is written: all records of a batch, under a name of its own;
2. each record is marked by compare-and-swap; from then on nobody changes it, and one that somebody opened again
   meanwhile is left alone, since its version is another;
3. what the segment holds is written, of those that were marked;
4. a tombstone for each, after which nobody begins the job again under its id;
5. only then the records are removed.

A record that is marked and has a tombstone is only removed; one that is marked and has none goes through it all again.
Nothing is lost by removing it late, or twice: nobody ever works on what stands there again (lifecycle/archive.py).
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from random import SystemRandom
from typing import Final

from attrs import define, evolve, field, frozen

from client.commands.storage import human
from client.config.composition import Environment
from client.records.archive_index import contents, entry
from client.records.database import cache_path
from client.records.record_index import Query, RecordIndex
from client.views.progress import bar
from lifecycle.errors import ConfigError, HoldfastError, VersionConflictError
from lifecycle.job_record import JobRecord, iso
from lifecycle.record.archive_format import ArchivePosition, Tombstone, is_archived, pack_segment, put_tombstone
from lifecycle.record.record_store import StoredRecord, WriteConflict
from lifecycle.states import FINAL

LEAST: Final = timedelta(days=1)
BATCH: Final = 1000  # records in memory, and in a segment
WORKERS: Final = 32
TOO_SOON: Final = (
    "--older {}: a day at least, since a worker may sleep for hours between learning that a job was never begun and"
    " beginning it"
)


@frozen
class Chosen:
    """A record that is to go.

    Attributes:
        stored: It, as it stands in the bucket.
        at: When it was last written, ISO 8601 UTC, by this machine's clock and the store's age.
        is_done: Whether it has its tombstone, so that it is only to be removed.
    """

    stored: StoredRecord
    at: str
    is_done: bool

    @property
    def job(self) -> str:
        """Whose."""
        return self.stored.record.job


@define
class ArchiveResult:
    """What a run did: jobs that went, by state; bytes of segments; what went wrong, a line each."""

    gone: Counter[str] = field(factory=Counter)
    bytes: int = 0
    problems: list[str] = field(factory=list)


def run(env: Environment, *, older: timedelta, dry_run: bool, as_json: bool) -> int:
    """Archive the jobs that have been over for *older*, by the store's clock; with *dry_run* only say which.

    Returns:
        0; 1 if one could not be archived, which stderr names. Safe to repeat, and that finishes what was left.

    Raises:
        ConfigError: *older* is too little; wrong bucket or credentials.
        RetryableError: The bucket cannot be reached: what was begun is finished by the next run.
    """
    if older < LEAST:
        raise ConfigError(TOO_SOON.format(older))
    done = ArchiveResult()
    with RecordIndex(env, cache_path(env)) as index:
        with bar("reading records", None) as advance:
            index.refresh(advance)
        wanted = Query(states=sorted(FINAL), before_s=older.total_seconds())
        jobs = (found.stored for found in index.jobs(wanted) if found.stored)
        ripe = (stored.record for stored in jobs if is_ripe(env, stored, older))
        with bar("archiving", None) as advance:
            while batch := list(islice(ripe, BATCH)):
                for record in batch if dry_run else archive(env, batch, older, done):
                    done.gone[record.state] += 1
                    advance(1)
                    if as_json:
                        print(json.dumps({"job": record.job, "state": record.state, "archived": not dry_run}))
    for problem in done.problems:
        print(f"holdfast: {problem}", file=sys.stderr)
    if not as_json:
        _tell(done, dry_run=dry_run)
    return int(bool(done.problems))


def is_ripe(env: Environment, stored: StoredRecord, older: timedelta) -> bool:
    """Whether the job is over, with nothing left to do, and has been for *older*; or was marked by an earlier run.

    Changes of its state that are still to be told are something to do, where anybody is told: `holdfast reconcile`.
    """
    record = stored.record
    has_more_to_tell = env.notification_policy is not None and bool(record.outbox.notices)
    is_old = stored.age_s >= older.total_seconds() and not has_more_to_tell
    return record.is_settled and (record.archived is not None or is_old)


def archive(
    env: Environment, records: Iterable[JobRecord], older: timedelta, done: ArchiveResult
) -> Iterator[JobRecord]:
    """Archive those of *records* that are still ripe, in one segment; yields each that has gone.

    Raises:
        ConfigError: Wrong bucket or credentials.
        RetryableError: The bucket cannot be reached.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="archive") as pool:
        found = pool.map(lambda record: _choose(env, record.job, older, done), records)
        chosen = [one for one in found if one is not None]
        fresh = [one for one in chosen if not one.is_done]
        buried = [one for one in chosen if one.is_done]
        if fresh:
            name = f"{env.clock.now():%Y%m%dT%H%M%S}-{SystemRandom().getrandbits(64):016x}"
            body, spots = pack_segment(name, [evolve(one.stored.record, archived=None) for one in fresh])
            env.store.put(env.layout.segment(name), body)
            marks = pool.map(lambda one: _mark(env, one, name, done), fresh)
            marked = [(one, spot) for one, spot, is_ours in zip(fresh, spots, marks, strict=True) if is_ours]
            if marked:
                entries = (entry(one.stored.record, one.at, spot) for one, spot in marked)
                env.store.put(env.layout.contents(name), contents(entries))
                stones = pool.map(lambda each: _bury(env, each[0], each[1], done), marked)
                buried += [one for (one, _), is_there in zip(marked, stones, strict=True) if is_there]
            done.bytes += len(body)
    env.store.delete([env.layout.job(one.job).record for one in buried])
    yield from (one.stored.record for one in buried)


def _choose(env: Environment, job: str, older: timedelta, done: ArchiveResult) -> Chosen | None:
    """The record as it stands now, if it is still to go: the index is a copy."""
    keys = env.layout.job(job)
    try:
        stored = env.record_store.read(keys.record)
        if stored is None or stored.record.job != job or not is_ripe(env, stored, older):
            return None
        at = iso(env.clock.now() - timedelta(seconds=stored.age_s))
        may_be_done = (
            stored.record.archived is not None or not stored.record.attempts
        )  # or of an id that was used twice
        return Chosen(stored, at, may_be_done and is_archived(env.store, keys))
    except HoldfastError as error:
        _note(job, error, done)
        return None


def _mark(env: Environment, one: Chosen, name: str, done: ArchiveResult) -> bool:
    """Let nobody change it any more; False if somebody has."""
    if one.stored.record.archived is not None:
        return True  # by a run that died: whatever it did, the record is as it was
    try:
        marked = evolve(one.stored.record, archived=name)
        return not isinstance(
            env.record_store.write(env.layout.job(one.job).record, marked, one.stored.version), WriteConflict
        )
    except HoldfastError as error:
        _note(one.job, error, done)
        return False


def _bury(env: Environment, one: Chosen, spot: ArchivePosition, done: ArchiveResult) -> bool:
    """Write its tombstone, if it has none; False if that is not known to be there."""
    try:
        put_tombstone(env.store, env.layout.job(one.job), Tombstone(one.job, spot, one.at))
    except VersionConflictError:
        return True
    except HoldfastError as error:
        _note(one.job, error, done)
        return False
    return True


def _note(job: str, error: HoldfastError, done: ArchiveResult) -> None:
    if isinstance(error, ConfigError):
        raise error
    done.problems.append(f"{job}: not archived: {error}; run it again")


def _tell(done: ArchiveResult, *, dry_run: bool) -> None:
    states = ", ".join(f"{count} {state}" for state, count in done.gone.most_common())
    size = f", in {human(done.bytes)}" if done.bytes else ""
    print(f"{done.gone.total()} jobs {'would be ' if dry_run else ''}archived{size}{': ' if states else ''}{states}")
