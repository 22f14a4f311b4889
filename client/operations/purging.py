"""Finding what Holdfast wrote under a prefix, and removing it; anything else in the bucket is left alone.

A job's objects are recognised by its record or tombstone. These are removed first, because an owner whose record is
gone writes no more, so the ids of the jobs are kept in an object of their own until the rest is removed: if the command
is interrupted, the next one finishes.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final
from uuid import uuid4

from attrs import frozen

from client.config.environment import Environment
from lifecycle.attempt.salad_demo import LOGS, STATE
from lifecycle.errors import PermanentError
from lifecycle.key_layout import KeyLayout
from lifecycle.ports.store import ListedObject

DELETE_BATCH: Final = 1000
ATTEMPT_DATA: Final = re.compile(r"(?:checkpoints|packs|log)/e\d+(?:/|\.jsonl$)")
"""What only an attempt writes, so that it is recognised without a record too."""


@frozen
class PurgePlan:
    """The objects under a prefix.

    Attributes:
        layout: The layout of their keys.
        jobs: The ids of all jobs.
        records: Records and tombstones.
        others: Everything else that Holdfast wrote.
        left: Everything that it did not write, or that belongs to another prefix.
    """

    layout: KeyLayout
    jobs: frozenset[str]
    records: list[ListedObject]
    others: list[ListedObject]
    left: list[ListedObject]

    def left_by_folder(self) -> dict[str, int]:
        """Return the number of objects left, by the folder or name directly below the prefix."""
        start = len(self.layout.under(""))
        return Counter(_top(one.key[start:]) for one in self.left)


def plan_purge(env: Environment) -> PurgePlan:
    """List everything under the prefix, and tell what Holdfast wrote from what it did not.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
        RetryableError: The bucket cannot be listed.
    """
    layout = env.layout
    listed = list(env.store.list(layout.under("")))
    jobs = frozenset(_jobs(env, listed))
    records, others, left = list[ListedObject](), list[ListedObject](), list[ListedObject]()
    for one in listed:
        if one.key.startswith((layout.records, layout.tombstones)):
            records.append(one)
        elif _is_ours(one.key, layout, jobs):
            others.append(one)
        else:
            left.append(one)
    return PurgePlan(layout, jobs, records, others, left)


def carry_out(env: Environment, plan: PurgePlan, advance: Callable[[int], None]) -> None:
    """Remove what Holdfast wrote. Safe to repeat, with a new plan.

    Args:
        env: The environment that the plan was made for.
        plan: The plan.
        advance: Called with the number of objects removed.
    """
    note = f"{plan.layout.purges}{uuid4().hex}.json"
    env.store.put(note, json.dumps(sorted(plan.jobs)).encode())
    earlier = [one.key for one in plan.others if one.key.startswith(plan.layout.purges)]
    rest = [one.key for one in plan.others if not one.key.startswith(plan.layout.purges)]
    for keys in ([one.key for one in plan.records], rest, earlier):
        for batch in _batches(keys):
            env.store.delete(batch)
            advance(len(batch))
    env.store.delete([note])


def _jobs(env: Environment, listed: Iterable[ListedObject]) -> Iterator[str]:
    """Yield the ids of the jobs that have a record or a tombstone, or had one when an earlier purge began."""
    layout = env.layout
    for one in listed:
        for start in (layout.records, layout.tombstones):
            if one.key.startswith(start):
                yield one.key.removeprefix(start).removesuffix(".json")
        if one.key.startswith(layout.purges):
            stored = env.store.get(one.key)
            yield from _listed_jobs(one.key, stored.body) if stored else ()


def _listed_jobs(key: str, body: bytes) -> list[str]:
    try:
        jobs = json.loads(body)
    except ValueError:
        jobs = None
    if not isinstance(jobs, list) or not all(isinstance(job, str) for job in jobs):
        raise PermanentError(f"{key} is damaged: remove it, and purge again")
    return jobs


def _is_ours(key: str, layout: KeyLayout, jobs: frozenset[str]) -> bool:
    """Return True if Holdfast wrote *key*: for its own use, or for a job."""
    if key.startswith(layout.own):
        return True
    job, _, rest = key.removeprefix(layout.under("")).partition("/")
    if ATTEMPT_DATA.match(rest):
        return True
    keys = layout.job(job)
    return job in jobs and (
        key.startswith((keys.input, keys.output, keys.manifests, keys.packs, keys.logs))
        or key in {keys.input_file, f"{keys.folder}{STATE}", f"{keys.folder}{LOGS}"}
    )


def _top(key: str) -> str:
    folder, slash, _ = key.partition("/")
    return folder + slash


def _batches(keys: list[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while batch := list(islice(rest, DELETE_BATCH)):
        yield batch
