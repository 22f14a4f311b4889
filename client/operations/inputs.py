"""Job folders on the operator's disk, and uploading their files as inputs."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from client.config.environment import Environment
from lifecycle.errors import ConfigError, HoldfastError, PermanentError, RetryableError, UsageError, reason_of
from lifecycle.key_layout import is_job_id

SENDERS: Final = 8
NOT_A_JOB_ID: Final = (
    "the name is not a valid job id: use a letter or digit, then up to 127 letters, digits, `.`, `_` or `-`"
)


@frozen
class FileUpload:
    """A file to upload: its key in the bucket, its path, and its size."""

    key: str
    path: Path
    size_bytes: int


@define
class UploadPlan:
    """The files to upload, the number of jobs that they belong to, and a line for each folder that cannot be used."""

    uploads: list[FileUpload] = field(factory=list)
    jobs: int = 0
    problems: list[str] = field(factory=list)


def plan_uploads(env: Environment, directory: Path, *, force: bool) -> UploadPlan:
    """Find the inputs of all job folders in *directory*; a folder that cannot be used does not affect the others.

    Args:
        env: The environment to upload to.
        directory: A folder whose sub-folders are jobs.
        force: Replace the input of unfinished jobs, too.

    Raises:
        UsageError: *directory* has no sub-folders.
        ConfigError: The bucket or its credentials are wrong.
    """
    plan = UploadPlan()

    def find(folder: Path) -> list[FileUpload] | str:
        try:
            return inputs_of(env, folder, force=force)
        except (ValueError, OSError) as error:
            return f"{folder}: {reason_of(error)}"

    with ThreadPoolExecutor(SENDERS) as pool:
        for found in pool.map(find, job_folders(directory)):
            if isinstance(found, str):
                plan.problems.append(found)
            else:
                plan.uploads += found
                plan.jobs += 1
    return plan


def job_folders(directory: Path) -> list[Path]:
    """Return the sub-folders of *directory* in order, without hidden ones; each is a job.

    Raises:
        UsageError: *directory* does not exist, or has no sub-folders.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UsageError(f"{directory} has no sub-folders; each sub-folder would be a job")
    return folders


def inputs_of(env: Environment, folder: Path, *, force: bool = False) -> list[FileUpload]:
    """Return the input files of a job folder: all of them, or none.

    Raises:
        ValueError: The folder cannot be a job, or one of its files cannot be uploaded; the message says why.
        OSError: The folder cannot be read.
        ConfigError: The bucket or its credentials are wrong.
    """
    if not is_job_id(folder.name):
        raise ValueError(NOT_A_JOB_ID)
    keys = env.layout.job(folder.name)
    found = sorted(files_below(folder))
    if not found:
        raise ValueError("is empty: there is nothing to upload")
    for path in found:
        if not str(path.relative_to(folder)).isascii():
            raise ValueError(f"{path.name!r} is not ASCII, and keys must be")
    if not force:
        _expect_finished(env, folder.name)
    return [
        FileUpload(f"{keys.input}{path.relative_to(folder).as_posix()}", path, path.stat().st_size) for path in found
    ]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below *folder*. Links to files are followed; anything that cannot be uploaded is an error.

    Raises:
        ValueError: An entry is neither a file nor a folder: a link to a folder, a broken link, a pipe.
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                raise ValueError(f"{path.relative_to(folder)} is a link to a folder, which is not followed")
        for path in (Path(parent, name) for name in files):
            if not path.is_file():
                raise ValueError(f"{path.relative_to(folder)} is a broken link, or not a regular file")
            yield path


def _expect_finished(env: Environment, job: str) -> None:
    """Protect the input of a job that may be running.

    Raises:
        ValueError: The job is not over, or its record cannot be read.
        ConfigError: The bucket or its credentials are wrong.
    """
    try:
        stored = env.record_store.read(env.layout.job(job).record)
    except (RetryableError, PermanentError) as error:
        raise ValueError(f"cannot check that the job is over: {error}") from error
    if stored and not stored.record.is_final:
        raise ValueError(
            f"the job is {stored.record.state}, so its input is not replaced; cancel it first, or pass --force"
        )


def upload_files(env: Environment, uploads: Sequence[FileUpload], advance: Callable[[int], None]) -> list[str]:
    """Upload files, several at a time; return a line for each that failed.

    Args:
        env: The environment to upload to.
        uploads: The files.
        advance: Called with the size of each uploaded file.

    Raises:
        ConfigError: The bucket or its credentials are wrong, so no other file could be uploaded either.
    """

    def upload(one: FileUpload) -> str | None:
        try:
            env.store.put_file(one.key, one.path)
        except ConfigError:
            raise
        except (OSError, HoldfastError) as error:
            return f"{one.path}: not uploaded: {reason_of(error)}"
        advance(one.size_bytes)
        return None

    with ThreadPoolExecutor(SENDERS) as pool:
        return [failure for failure in pool.map(upload, uploads) if failure]
