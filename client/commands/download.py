"""`holdfast download DIR`: outputs and logs of jobs, every byte verified against what was committed.

Whatever keys the bucket holds and whatever links DIR holds, nothing is written outside DIR.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from attrs import define, field

from client.commands.storage import human
from client.config.composition import Environment
from client.records.reader import Found, read_all
from client.views.progress import bar
from lifecycle.checkpoint.manifest import FileEntry, Manifest, is_safe_path
from lifecycle.checkpoint.restore import fetch_manifest, fill
from lifecycle.checkpoint.restore_target import is_part
from lifecycle.errors import ConfigError, HoldfastError, PermanentError
from lifecycle.job_record import CheckpointRef, JobRecord

FETCHERS: Final = 8

Fetch = Callable[[], int]
"""Fetches something, and returns how many bytes it had to."""


@define
class Plan:
    """What is to be fetched for a job, by name, and what cannot be."""

    fetches: list[tuple[str, Fetch]] = field(factory=list)
    problems: list[str] = field(factory=list)


def run(env: Environment, directory: Path, jobs: Sequence[str], *, state: bool) -> int:
    """Fetch into DIR/<job>/: `output/` of completed jobs, `log/` of all, and with *state* the last checkpoint.

    Files that are there already and right are not fetched again.

    Returns:
        0; 1 if anything is missing or damaged, each such thing being named on stderr.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = list(read_all(env, jobs))
    with ThreadPoolExecutor(FETCHERS) as pool:
        plans = list(pool.map(lambda one: plan(env, one, directory, state=state), found))
    fetches = [fetch for each in plans for fetch in each.fetches]
    fetched, failures = _carry_out(fetches)
    problems = [problem for each in plans for problem in each.problems] + failures
    for problem in problems:
        print(f"holdfast: {problem}", file=sys.stderr)
    completed = sum(one.stored is not None and one.stored.record.result is not None for one in found)
    print(f"{completed} completed jobs, {len(fetches) - len(failures)} files, {human(fetched)} fetched, in {directory}")
    return int(bool(problems))


def plan(env: Environment, found: Found, directory: Path, *, state: bool) -> Plan:
    """What to fetch for one job; what is wrong with its outputs does not keep its logs away.

    Raises:
        ConfigError: Wrong bucket or credentials.
    """
    if found.stored is None:
        return Plan(problems=[found.problem or found.job])
    record, made = found.stored.record, Plan()
    steps = [partial(_logs, env, record, directory)]
    if record.result:
        steps.append(partial(_files, env, record.result.manifest, directory, found.job))
    if state and record.checkpoint:
        steps.append(partial(_files, env, record.checkpoint, directory, f"{found.job}/state", alone=True))
    for step in steps:
        try:
            made.fetches += step()
        except ConfigError:
            raise
        except (HoldfastError, OSError) as error:
            made.problems.append(f"{found.job}: {error}")
    return made


def inside(directory: Path, path: str) -> Path:
    """*path* below *directory*.

    Raises:
        PermanentError: It would be elsewhere, by its parts or by a link.
    """
    target = directory / path
    if not is_safe_path(path) or not target.resolve().is_relative_to(directory.resolve()):
        raise PermanentError(f"{path!r:.200} would be written outside {directory}: not fetched")
    return target


def _files(
    env: Environment, ref: CheckpointRef, directory: Path, path: str, *, alone: bool = False
) -> list[tuple[str, Fetch]]:
    """What a manifest names; if it is to be *alone*, only where nothing else lies."""
    into, manifest = inside(directory, path), fetch_manifest(env.store, ref)
    into.mkdir(parents=True, exist_ok=True)
    if alone:
        _expect_alone(into, manifest)
    return [(str(into / entry.path), partial(_fetch_file, env, entry, into)) for entry in manifest.files]


def _expect_alone(into: Path, manifest: Manifest) -> None:
    """A checkpoint is of one moment: files that another left would go on with it."""
    named = {into / entry.path for entry in manifest.files}
    others = {file for file in into.rglob("*") if file.is_file() and not is_part(file.name)} - named
    if others:
        raise PermanentError(f"{min(others)} is not of this checkpoint: remove {into}, and download again")


def _fetch_file(env: Environment, entry: FileEntry, into: Path) -> int:
    return sum(target.fetched_bytes for target in fill(env.store, env.clock, [entry], into))


def _logs(env: Environment, record: JobRecord, directory: Path) -> list[tuple[str, Fetch]]:
    logs = env.layout.job(record.job).logs
    return [
        (one.key, partial(_fetch_log, env, one.key, directory, f"{record.job}/log/{one.key.removeprefix(logs)}"))
        for one in env.store.list(logs)
    ]


def _fetch_log(env: Environment, key: str, directory: Path, path: str) -> int:
    target = inside(directory, path)
    stored = env.store.get(key)
    if stored is None:
        return 0  # purged since it was listed
    target.parent.mkdir(parents=True, exist_ok=True)
    part = inside(directory, f"{path}.part")
    try:
        part.write_bytes(stored.body)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return len(stored.body)


def _carry_out(fetches: Sequence[tuple[str, Fetch]]) -> tuple[int, list[str]]:
    failures = []
    fetched = 0
    with bar("downloading", len(fetches)) as advance, ThreadPoolExecutor(FETCHERS) as pool:
        for name, future in [(name, pool.submit(fetch)) for name, fetch in fetches]:
            try:
                fetched += future.result()
            except (HoldfastError, OSError) as error:
                failures.append(f"{name}: {error}")
            advance(1)
    return fetched, failures
