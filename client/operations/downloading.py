"""Downloading outputs, checkpoints and logs; each byte is verified against what was committed.

Nothing is written outside the target folder, for any keys in the bucket and any links in the folder.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from client.config.environment import Environment
from client.records.reader import Lookup
from lifecycle.checkpoint.manifest import FileEntry, Manifest, is_safe_path
from lifecycle.checkpoint.restore import fetch_manifest, fill
from lifecycle.checkpoint.restore_target import is_part
from lifecycle.checkpoint.restore_tree import finish
from lifecycle.checkpoint.tree import make_directories
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, reason_of
from lifecycle.job_record import CheckpointRef, JobRecord

FETCHERS: Final = 8


@frozen
class Fetch:
    """A file to download: its name, for people, and a function that fetches it and returns the bytes received."""

    name: str
    run: Callable[[], int]


@frozen
class Tree:
    """A manifest whose links and folders are finished once its files are downloaded."""

    directory: Path
    manifest: Manifest


@define
class DownloadPlan:
    """The files to download, the trees to finish afterwards, and a line for each problem found on the way."""

    fetches: list[Fetch] = field(factory=list)
    trees: list[Tree] = field(factory=list)
    problems: list[str] = field(factory=list)


def plan_downloads(env: Environment, jobs: Sequence[Lookup], directory: Path, *, state: bool) -> DownloadPlan:
    """Plan the downloads of all *jobs*; a problem with a job's outputs does not affect its logs.

    Args:
        env: The environment to download from.
        jobs: The jobs.
        directory: The target folder; each job gets a sub-folder.
        state: Download the last checkpoints, too.

    Raises:
        ConfigError: The bucket or its credentials are wrong.
    """
    with ThreadPoolExecutor(FETCHERS) as pool:
        plans = list(pool.map(lambda one: _plan_job(env, one, directory, state=state), jobs))
    return DownloadPlan(
        [fetch for each in plans for fetch in each.fetches],
        [tree for each in plans for tree in each.trees],
        [problem for each in plans for problem in each.problems],
    )


def _plan_job(env: Environment, found: Lookup, directory: Path, *, state: bool) -> DownloadPlan:
    if found.stored is None:
        return DownloadPlan(problems=[found.problem or found.job])
    record, plan = found.stored.record, DownloadPlan()
    steps: list[Callable[[], None]] = [partial(_logs, env, plan, record, directory)]
    if record.result:
        steps.append(partial(_files, env, plan, record.result.manifest, directory, found.job))
    if state and record.checkpoint:
        steps.append(partial(_files, env, plan, record.checkpoint, directory, f"{found.job}/state", alone=True))
    for step in steps:
        try:
            step()
        except ConfigError:
            raise
        except (HoldfastError, OSError) as error:
            plan.problems.append(f"{found.job}: {error}")
    return plan


def fetch_all(fetches: Sequence[Fetch], advance: Callable[[int], None]) -> tuple[int, list[str]]:
    """Download several files at a time.

    Args:
        fetches: The files.
        advance: Called with 1 for each file.

    Returns:
        The bytes received, and a line for each file that failed.
    """
    failures = []
    received = 0
    with ThreadPoolExecutor(FETCHERS) as pool:
        for name, future in [(fetch.name, pool.submit(fetch.run)) for fetch in fetches]:
            try:
                received += future.result()
            except (HoldfastError, OSError) as error:
                failures.append(f"{name}: {reason_of(error)}")
            advance(1)
    return received, failures


def finish_trees(trees: Sequence[Tree]) -> tuple[list[str], list[str]]:
    """Make the links of downloaded trees, and set modes and times of their folders.

    Returns:
        A line for each link that was left out because it leads out of its tree, and for each tree that failed.
    """
    omitted, failures = [], []
    for tree in trees:
        try:
            omitted += [f"{tree.directory}: {link}" for link in finish(tree.directory, tree.manifest, inside=True)]
        except OSError as error:
            failures.append(f"{tree.directory}: {reason_of(error)}")
    return omitted, failures


def inside(directory: Path, path: str) -> Path:
    """Return *path* below *directory*.

    Raises:
        PermanentError: Its parts or a link lead outside *directory*.
    """
    target = directory / path
    if not is_safe_path(path) or not target.resolve().is_relative_to(directory.resolve()):
        raise PermanentError(f"{path!r:.200} would be written outside {directory}: not downloaded")
    return target


def _files(
    env: Environment, plan: DownloadPlan, ref: CheckpointRef, directory: Path, path: str, *, alone: bool = False
) -> None:
    """Plan the tree of a manifest; if *alone*, the target folder may contain nothing else."""
    into, manifest = inside(directory, path), fetch_manifest(env.store, ref)
    into.mkdir(parents=True, exist_ok=True)
    if alone:
        _expect_alone(into, manifest)
    for folder in sorted(manifest.folders):
        make_directories(into, folder, replace=False)
    plan.fetches += [Fetch(str(into / entry.path), partial(_fetch_file, env, entry, into)) for entry in manifest.files]
    plan.trees.append(Tree(into, manifest))


def _expect_alone(into: Path, manifest: Manifest) -> None:
    """Refuse a folder with files of another checkpoint: a checkpoint is the state at one moment.

    Raises:
        PermanentError: The folder has other files.
    """
    named = {into / path for path in manifest.leaves}
    others = {
        path
        for path in into.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and not is_part(path.name) and path not in named
    }
    if others:
        raise PermanentError(f"{min(others)} does not belong to this checkpoint: remove {into} and download again")


def _fetch_file(env: Environment, entry: FileEntry, into: Path) -> int:
    return sum(target.fetched_bytes for target in fill(env.store, env.clock, [entry], into))


def _logs(env: Environment, plan: DownloadPlan, record: JobRecord, directory: Path) -> None:
    logs = env.layout.job(record.job).logs
    plan.fetches += [
        Fetch(one.key, partial(_fetch_log, env, one.key, directory, f"{record.job}/log/{one.key.removeprefix(logs)}"))
        for one in env.store.list(logs)
    ]


def _fetch_log(env: Environment, key: str, directory: Path, path: str) -> int:
    target = inside(directory, path)
    stored = env.store.get(key)
    if stored is None:
        return 0  # purged after it was listed
    target.parent.mkdir(parents=True, exist_ok=True)
    part = inside(directory, f"{path}.part")
    try:
        part.write_bytes(stored.body)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return len(stored.body)
