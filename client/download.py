"""`holdfast download DIR`: outputs and logs of jobs, every byte verified against what was committed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from client.bar import bar
from client.bootstrap import Site
from client.records import read_all
from client.storage import human
from lifecycle.errors import HoldfastError
from lifecycle.record import CheckpointRef, JobRecord
from lifecycle.restore import fetch_file, fetch_manifest

FETCHERS: Final = 8

Fetch = Callable[[], int]
"""Fetches something, and returns how many bytes it had to."""


def run(site: Site, directory: Path, jobs: Sequence[str], *, state: bool) -> int:
    """Fetch into DIR/<job>/: `output/` of completed jobs, `log/` of all, and with *state* the last checkpoint.

    Files that are there already and right are not fetched again.

    Returns:
        0; 1 if anything is missing or damaged, each such thing being named on stderr.
    """
    directory.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    fetches: list[tuple[str, Fetch]] = []
    completed = 0
    for found in read_all(site, jobs):
        if found.held is None:
            problems.append(found.problem or found.job)
            continue
        completed += found.held.record.result is not None
        try:
            fetches += _fetches(site, found.held.record, directory / found.job, state=state)
        except HoldfastError as error:
            problems.append(f"{found.job}: {error}")
    fetched, failures = _carry_out(fetches)
    for problem in problems + failures:
        print(f"holdfast: {problem}", file=sys.stderr)
    print(f"{completed} completed jobs, {len(fetches) - len(failures)} files, {human(fetched)} fetched, in {directory}")
    return int(bool(problems or failures))


def _fetches(site: Site, record: JobRecord, into: Path, *, state: bool) -> Iterator[tuple[str, Fetch]]:
    if record.result:
        yield from _files_of(site, record.result.manifest, into / "output")
    if state and record.checkpoint:
        yield from _files_of(site, record.checkpoint, into / "state")
    keys = site.place.job(record.job)
    for listed in site.store.list(keys.logs):
        target = into / "log" / listed.key.removeprefix(keys.logs)
        yield listed.key, partial(_fetch_log, site, listed.key, target)


def _files_of(site: Site, ref: CheckpointRef, into: Path) -> Iterator[tuple[str, Fetch]]:
    into.mkdir(parents=True, exist_ok=True)
    for entry in fetch_manifest(site.store, ref).files:
        yield str(into / entry.path), partial(fetch_file, site.store, entry, into)


def _fetch_log(site: Site, key: str, target: Path) -> int:
    stored = site.store.get(key)
    if stored is None:
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(stored.body)
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
