"""Loading a job's input: every object under `input/`, or else the one file `input.txt`.

The bytes are compared with the object's ETag where that is the MD5 of its content: R2 and S3 have such ETags for
objects that were written in one piece
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). An ETag that is no MD5 proves nothing, and S3 has
those for objects that are encrypted with a key of KMS. So a mismatch counts only if the ETag of the job's own record,
whose bytes are read with it, is an MD5.
"""

import errno
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import md5
from pathlib import Path
from shutil import disk_usage
from typing import Final

from lifecycle.checkpoint.manifest import is_safe_path, parents_of
from lifecycle.checkpoint.tree import make_directories
from lifecycle.concurrency import ThreadPool
from lifecycle.errors import MisfitError, PermanentError, RetryableError
from lifecycle.key_layout import JobKeys
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import ListedObject, ObjectStore, Range, Version
from lifecycle.structured_log import StructuredLogger

FETCHERS: Final = 4  # ranges fetched at once
RANGE_BYTES: Final = 16 << 20  # the most of one
READ_BYTES: Final = 1 << 20  # of a file that is verified, at a time
MAX_NAME_BYTES: Final = 255  # of a file or folder: NAME_MAX of Linux file systems
GB: Final = 1e9
MD5_ETAG: Final = re.compile(r'"?([0-9a-f]{32})"?')

log = StructuredLogger("holdfast.input")


class InputFiles:
    """The input of one job.

    Args:
        store: The bucket.
        clock: Source of threads.
        keys: The job's keys.
        directory: Where the input goes; an empty directory.
        check_interrupted: Called before each range; raises to give up.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        *,
        keys: JobKeys,
        directory: Path,
        check_interrupted: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._directory = directory
        self._check_interrupted = check_interrupted

    def load(self) -> int:
        """Fetch the input, and return the number of files.

        Raises:
            PermanentError: A key cannot be the name of a file.
            MisfitError: The input is larger than what is free on this node's disk.
            RetryableError: The store could not be read, or the bytes are not those that were uploaded.
            OSError: The disk refused a write.
        """
        found = self._listed()
        ensure_names([(listed.key, name) for listed, name in found])
        ensure_room(sum(listed.size_bytes for listed, _ in found), self._directory)
        pool = ThreadPool(self._clock, name="fetch-input", max_threads=FETCHERS)
        for listed, name in found:
            target = self._directory / name
            _create(self._directory, name)
            if listed.size_bytes <= RANGE_BYTES:
                self._check_interrupted()
                pool.submit(partial(self._fetch_whole, listed, target))
            else:
                for offset in range(0, listed.size_bytes, RANGE_BYTES):
                    self._check_interrupted()
                    part = Range(listed.key, offset, min(RANGE_BYTES, listed.size_bytes - offset))
                    pool.submit(partial(self._fetch_range, part, target))
        pool.finish()
        large = [(listed, name) for listed, name in found if listed.size_bytes > RANGE_BYTES]
        if large:
            self._ensure_unchanged([listed for listed, _ in found])
        for listed, name in large:
            self._verify_large(listed, self._directory / name)
        return len(found)

    def _listed(self) -> Sequence[tuple[ListedObject, str]]:
        """Return each object of the input with its name."""
        keys = self._keys
        found = [
            (listed, listed.key.removeprefix(keys.input))
            for listed in self._store.list(keys.input)
            if listed.size_bytes or not listed.key.endswith("/")  # bucket browsers make such objects as "folders"
        ]
        if found:
            return found
        return [(listed, "input.txt") for listed in self._store.list(keys.input_file) if listed.key == keys.input_file]

    def _fetch_whole(self, listed: ListedObject, target: Path) -> None:
        """Fetch a file in one piece and verify it; once more if it is wrong: the fault may lie in the transfer."""
        if not listed.size_bytes:
            return
        part = Range(listed.key, 0, listed.size_bytes)
        content = self._get(part)
        if _differs(listed.version, md5(content, usedforsecurity=False).hexdigest()):
            content = self._get(part)
            if _differs(listed.version, md5(content, usedforsecurity=False).hexdigest()):
                self._refuse(listed)
        _write(target, 0, content)

    def _fetch_range(self, part: Range, target: Path) -> None:
        _write(target, part.offset, self._get(part))

    def _verify_large(self, listed: ListedObject, target: Path) -> None:
        """Verify a file that was fetched in ranges; fetch it once more if it is wrong."""
        if _md5_of(listed.version) is None or not _differs(listed.version, self._digest(target)):
            return
        for offset in range(0, listed.size_bytes, RANGE_BYTES):
            self._check_interrupted()
            part = Range(listed.key, offset, min(RANGE_BYTES, listed.size_bytes - offset))
            self._fetch_range(part, target)
        if _differs(listed.version, self._digest(target)):
            self._refuse(listed)

    def _digest(self, target: Path) -> str:
        digest = md5(usedforsecurity=False)
        with target.open("rb") as file:
            while content := file.read(READ_BYTES):
                self._check_interrupted()
                digest.update(content)
        return digest.hexdigest()

    def _refuse(self, listed: ListedObject) -> None:
        """Raise, unless the ETags of this store prove nothing."""
        record = self._store.get(self._keys.record)
        if record and not _differs(record.version, md5(record.body, usedforsecurity=False).hexdigest()):
            raise RetryableError(
                f"the input {listed.key} has wrong bytes: they are not those of its ETag; upload it again"
            )
        log.warning("input.not_verified", key=listed.key)

    def _get(self, part: Range) -> bytes:
        content = self._store.get_range(part)
        if content is None or len(content) != part.length:
            raise RetryableError(f"the input {part.key} changed while it was read")
        return content

    def _ensure_unchanged(self, found: Sequence[ListedObject]) -> None:
        """Make sure that no file fetched in ranges was put together from two versions."""
        now = {listed.key: listed.version for listed in self._store.list(self._keys.folder + "input")}
        for listed in found:
            if now.get(listed.key) != listed.version:
                raise RetryableError(f"the input {listed.key} changed while it was read")


def ensure_room(size_bytes: int, directory: Path) -> None:
    """Check that *size_bytes* fit on the disk of *directory*, before the disk fills up.

    Raises:
        MisfitError: They do not.
    """
    free_bytes = disk_usage(directory).free
    if size_bytes > free_bytes:
        log.warning("input.no_room", size=size_bytes, free=free_bytes)
        raise MisfitError(f"{size_bytes / GB:.1f} GB of free disk for its input")


def ensure_names(found: Sequence[tuple[str, str]]) -> None:
    """Check that all files of an input can exist side by side on a disk.

    Args:
        found: Key and name of each.

    Raises:
        PermanentError: They cannot, here or on any node.
    """
    names = {name for _, name in found}
    for key, name in found:
        if not is_safe_path(name):
            raise PermanentError(f"the input {key} has a name that would leave its directory")
        if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in name.split("/")):
            raise PermanentError(f"the input {key:.300} has a name of more than {MAX_NAME_BYTES} bytes: rename it")
        if clash := next((parent for parent in parents_of(name) if parent in names), None):
            raise PermanentError(f"the input has both a file {clash!r:.300} and files below it: rename one")


def _create(directory: Path, name: str) -> None:
    try:
        make_directories(directory, name.rpartition("/")[0], replace=False)
        (directory / name).touch()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise PermanentError(f"the input {name:.300} has a name that is too long for a file") from error


def _write(target: Path, offset: int, content: bytes) -> None:
    with target.open("rb+") as file:
        file.seek(offset)
        file.write(content)


def _md5_of(version: Version) -> str | None:
    """Return the MD5 that an ETag is; None if it is none, as for objects that were uploaded in parts."""
    match = MD5_ETAG.fullmatch(version)
    return match[1] if match else None


def _differs(version: Version, digest: str) -> bool:
    expected = _md5_of(version)
    return expected is not None and expected != digest
