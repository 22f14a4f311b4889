"""`holdfast upload DIR`: each sub-folder of DIR is a job, and its files are the job's input."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from client.bar import bar
from client.bootstrap import Site
from lifecycle.errors import ConfigError, HoldfastError, RetryableError
from lifecycle.keys import is_job_id

SENDERS: Final = 8


def run(site: Site, directory: Path) -> int:
    """Upload every job's input; what is wrong with one job does not stop the others.

    Returns:
        0, or 1 if anything was not uploaded; each such thing is named on stderr.
    """
    jobs, problems = 0, 0
    uploads: list[tuple[str, Path]] = []
    for folder in job_folders(directory):
        try:
            found = inputs_of(site, folder)
        except ValueError as error:
            print(f"holdfast: {folder}: {error}", file=sys.stderr)
            problems += 1
        else:
            uploads += found
            jobs += 1
    with bar("uploading", sum(path.stat().st_size for _, path in uploads)) as advance:
        failures = send(site, uploads, advance)
    for failure in failures:
        print(f"holdfast: {failure}", file=sys.stderr)
    print(f"uploaded {len(uploads) - len(failures)} files of {jobs} jobs")
    return int(bool(problems or failures))


def job_folders(directory: Path) -> list[Path]:
    """The sub-folders of *directory* that are jobs: all but hidden ones, in order.

    Raises:
        ConfigError: There is no such directory, or none in it.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory")
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise ConfigError(f"{directory} has no sub-folders; each one would be a job")
    return folders


def inputs_of(site: Site, folder: Path) -> list[tuple[str, Path]]:
    """Key and file for each of a job's input files.

    Raises:
        ValueError: The folder cannot be a job; the message says why.
    """
    if not is_job_id(folder.name):
        raise ValueError("is no job id: a letter or digit, then letters, digits, `.`, `_` or `-`, 128 at most")
    keys = site.place.job(folder.name)
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not found:
        raise ValueError("is empty: there is nothing to upload")
    for path in found:
        if not str(path.relative_to(folder)).isascii():
            raise ValueError(f"{path.name!r} is not ASCII, and keys are")
    held = site.ledger.read(keys.record)
    if held and not held.record.is_final:
        raise ValueError(f"the job is {held.record.state}: its input stays as it is; cancel it first")
    return [(f"{keys.input}{path.relative_to(folder).as_posix()}", path) for path in found]


def send(site: Site, uploads: list[tuple[str, Path]], advance: Callable[[int], None]) -> list[str]:
    """Upload all, several at a time; returns what went wrong, a line each."""

    def one(upload: tuple[str, Path]) -> str | None:
        key, path = upload
        try:
            site.store.put_file(key, path)
        except RetryableError as error:
            return f"{path}: not uploaded: {error}"
        except (OSError, HoldfastError) as error:
            return f"{path}: {error}"
        advance(path.stat().st_size)
        return None

    with ThreadPoolExecutor(SENDERS) as pool:
        return [failure for failure in pool.map(one, uploads) if failure]
