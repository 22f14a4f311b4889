"""`holdfast upload DIR`: each sub-folder of DIR is a job, and its files are the job's input."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from client.config.composition import Environment
from client.views.progress import bar
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError
from lifecycle.key_layout import is_job_id

SENDERS: Final = 8

Upload = tuple[str, Path, int]
"""Key, file, and its size in bytes."""


def run(env: Environment, directory: Path, *, force: bool = False) -> int:
    """Upload every job's input; what is wrong with one job does not stop the others.

    Args:
        env: Where to.
        directory: Each of its sub-folders is a job.
        force: Change the input of unfinished jobs too.

    Returns:
        0, or 1 if anything was not uploaded; each such thing is named on stderr.

    Raises:
        ConfigError: There is nothing to upload, or the bucket or its credentials are wrong.
    """
    jobs, problems = 0, 0
    uploads: list[Upload] = []

    def look(folder: Path) -> list[Upload] | str:
        try:
            return inputs_of(env, folder, force=force)
        except (ValueError, OSError) as error:
            return f"{folder}: {error}"

    with ThreadPoolExecutor(SENDERS) as pool:
        for found in pool.map(look, job_folders(directory)):
            if isinstance(found, str):
                print(f"holdfast: {found}", file=sys.stderr)
                problems += 1
            else:
                uploads += found
                jobs += 1
    with bar("uploading", sum(size for _, _, size in uploads)) as advance:
        failures = send(env, uploads, advance)
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


def inputs_of(env: Environment, folder: Path, *, force: bool = False) -> list[Upload]:
    """Each of a job's input files; all of them, or none.

    Raises:
        ValueError: The folder cannot be a job, or not wholly; the message says why.
        OSError: It cannot be read.
    """
    if not is_job_id(folder.name):
        raise ValueError("is no job id: a letter or digit, then letters, digits, `.`, `_` or `-`, 128 at most")
    keys = env.layout.job(folder.name)
    found = sorted(files_below(folder))
    if not found:
        raise ValueError("is empty: there is nothing to upload")
    for path in found:
        if not str(path.relative_to(folder)).isascii():
            raise ValueError(f"{path.name!r} is not ASCII, and keys are")
    if not force:
        refuse_unfinished(env, folder.name)
    return [(f"{keys.input}{path.relative_to(folder).as_posix()}", path, path.stat().st_size) for path in found]


def files_below(folder: Path) -> Iterator[Path]:
    """All files below *folder*. Links to files are followed; what could not be uploaded is not passed over in silence.

    Raises:
        ValueError: Something there is neither a file nor a folder: a link to a folder, a broken link, a pipe.
        OSError: A folder cannot be read.
    """

    def tell(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=tell):
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                raise ValueError(f"{path.relative_to(folder)} is a link to a folder, and those are not followed")
        for path in (Path(parent, name) for name in files):
            if not path.is_file():
                raise ValueError(f"{path.relative_to(folder)} is a broken link, or no file")
            yield path


def refuse_unfinished(env: Environment, job: str) -> None:
    """Keep the input of a job that may be running as it is.

    Raises:
        ValueError: The job is not over, or it cannot be known whether it is.
        ConfigError: Wrong bucket or credentials.
    """
    try:
        stored = env.record_store.read(env.layout.job(job).record)
    except (RetryableError, PermanentError) as error:
        raise ValueError(f"whether the job is over is not known: {error}") from error
    if stored and not stored.record.is_final:
        raise ValueError(f"the job is {stored.record.state}: its input stays as it is; cancel it first, or say --force")


def send(env: Environment, uploads: list[Upload], advance: Callable[[int], None]) -> list[str]:
    """Upload all, several at a time; returns what went wrong, a line each.

    Raises:
        ConfigError: Wrong bucket or credentials: the next file would fare no better.
    """

    def one(upload: Upload) -> str | None:
        key, path, size = upload
        try:
            env.store.put_file(key, path)
        except ConfigError:
            raise
        except (OSError, HoldfastError) as error:
            return f"{path}: not uploaded: {error}"
        advance(size)
        return None

    with ThreadPoolExecutor(SENDERS) as pool:
        return [failure for failure in pool.map(one, uploads) if failure]
