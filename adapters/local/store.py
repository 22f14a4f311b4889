"""LocalStore: a bucket in a directory, for any number of processes on one machine.

A key is a path below `objects/`. An object appears whole or not at all: it is written to a temporary file, flushed to
disk and renamed, and the rename is flushed too. A put holds a file lock for its key while it compares the version and
renames, and so does a delete; a process that is suspended in between delays the others by LOCK_WAIT_S at most. Versions
are hashes of the bytes; ages are those of the files.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from uuid import uuid4

from adapters.local.private_files import make_private, make_private_folder, open_private
from lifecycle.errors import ConfigError, PermanentError, RetryableError, VersionConflictError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version

LOCKS: Final = 256  # lock files; keys share them by hash
LOCK_WAIT_S: Final = 5.0  # then the call fails, and may be retried
LOCK_POLL_S: Final = 0.005
MOVE_TRIES: Final = 100  # another process may remove the target folder between mkdir and rename
ORPHAN_S: Final = 86_400.0  # a temporary file this old belongs to a process that was killed
COPY_BYTES: Final = 1 << 20  # copied at a time
DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_PATH: Final = frozenset({errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG})


class LocalStore:
    """A store in one directory. Thread-safe.

    Args:
        root: The directory; created if absent.
        clock: Used for ages.

    Raises:
        ConfigError: The directory cannot be created.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._objects = root / "objects"
        self._parts = root / "parts"
        self._locks = root / "locks"
        self._clock = clock
        with _mapped_errors(str(root)):
            for directory in (self._objects, self._parts, self._locks):
                make_private_folder(directory)
            make_private(root)
            self._sweep()

    def get(self, key: str) -> StoredObject | None:
        """See `ObjectStore.get`."""
        with _mapped_errors(key):
            try:
                with self._path(key).open("rb") as file:
                    body, seen = file.read(), os.fstat(file.fileno())
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
        return StoredObject(body, _version(body), self._age_s(seen))

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See `ObjectStore.put`."""
        target = self._path(key)
        with _mapped_errors(key), self._part() as part:
            with open(part, "wb", opener=open_private) as file:
                file.write(body)
                _flush(file)
            with self._locked(key):
                if expected is not None:
                    self._require(key, expected)
                self._move(part, target)
            self._flush_folders(target.parent)
        return _version(body)

    def get_range(self, wanted: Range) -> bytes | None:
        """See `ObjectStore.get_range`."""
        with _mapped_errors(wanted.key):
            try:
                with self._path(wanted.key).open("rb") as file:
                    file.seek(wanted.offset)
                    return file.read(wanted.length)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore.put_file`."""
        target = self._path(key)
        with path.open("rb") as source, _mapped_errors(key), self._part() as part:
            with open(part, "wb", opener=open_private) as file:
                shutil.copyfileobj(source, file, COPY_BYTES)
                _flush(file)
            self._move(part, target)
            self._flush_folders(target.parent)

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See `ObjectStore.assemble`."""
        target = self._path(key)
        with self._part() as part:
            with open(part, "wb", opener=open_private) as file:
                for each in parts:
                    content = self.get_range(each) if isinstance(each, Range) else each()
                    if content is None:
                        return False
                    with _mapped_errors(key):
                        file.write(content)
                with _mapped_errors(key):
                    _flush(file)
            with _mapped_errors(key):
                self._move(part, target)
                self._flush_folders(target.parent)
        return True

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See `ObjectStore.list`."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._objects
        with _mapped_errors(prefix):
            found = sorted(self._walk(start, f"{folder}/" if folder else "", prefix))
        for key, seen in found:
            yield ListedObject(key, seen.st_size, f"{seen.st_ino}-{seen.st_mtime_ns}", self._age_s(seen))

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        for key in keys:
            path = self._path(key)
            with _mapped_errors(key), self._locked(key):
                try:
                    path.unlink(missing_ok=True)
                except (IsADirectoryError, NotADirectoryError):
                    continue
                self._remove_empty(path.parent)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise PermanentError(f"invalid key {key!r:.200}: it has an empty part, or `.` or `..`")
        return self._objects.joinpath(*parts)

    @contextmanager
    def _part(self) -> Iterator[Path]:
        """Yield the path of a temporary file, which is removed at the end if it has not been moved."""
        part = self._parts / uuid4().hex
        try:
            yield part
        finally:  # rename(2) leaves it there, too, if both names already are the same file
            part.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove temporary files that killed processes have left."""
        now = self._clock.now().timestamp()
        for part in self._parts.iterdir():
            with suppress(FileNotFoundError):  # another process sweeps too, or has just moved it
                if now - part.stat().st_ctime > ORPHAN_S:
                    part.unlink()

    def _require(self, key: str, expected: Version | Absent) -> None:
        current = self.get(key)
        is_met = current is None if isinstance(expected, Absent) else current and current.version == expected
        if not is_met:
            raise VersionConflictError(f"{key} {'is absent' if current is None else 'exists at another version'}")

    def _move(self, part: Path, target: Path) -> None:
        moment = self._clock.now().timestamp()
        os.utime(part, (moment, moment))
        for tries_left in reversed(range(MOVE_TRIES)):
            try:
                make_private_folder(target.parent)
                part.replace(target)
            except (FileNotFoundError, FileExistsError):
                # Another process's delete may remove the folder before the rename, or while mkdir looks at it.
                if not tries_left:
                    raise
            else:
                return

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=2).digest()) % LOCKS
        with open(self._locks / f"{number:03d}", "w", opener=open_private) as lock:
            for tries_left in reversed(range(int(LOCK_WAIT_S / LOCK_POLL_S))):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if not tries_left:
                        raise RetryableError(f"{key} has been locked by another process for {LOCK_WAIT_S} s") from error
                    self._clock.sleep(LOCK_POLL_S)
            yield

    def _walk(self, directory: Path, key: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            entries = list(os.scandir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            name = f"{key}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if name.startswith(prefix) or prefix.startswith(f"{name}/"):
                    yield from self._walk(Path(entry.path), f"{name}/", prefix)
            elif name.startswith(prefix):
                try:
                    yield name, entry.stat()
                except FileNotFoundError:
                    continue

    def _flush_folders(self, folder: Path) -> None:
        """Flush a rename in *folder*, and the folders above it, which this or another process may just have created."""
        while folder != self._objects.parent:
            _flush_folder(folder)
            folder = folder.parent

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._objects:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _age_s(self, status: os.stat_result) -> float:
        return max(self._clock.now().timestamp() - status.st_mtime, 0.0)


def _version(body: Body) -> Version:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush the entries of *folder*; one that another process has removed meanwhile has none."""
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _mapped_errors(subject: str) -> Iterator[None]:
    """Map errors of the operating system to Holdfast's own, by number."""
    try:
        yield
    except OSError as error:
        if error.errno in DENIED:
            raise ConfigError(f"the local store has no access to {subject}: {error.strerror}") from error
        if error.errno in NO_PATH:
            raise PermanentError(f"{subject:.200} cannot be a path in the local store: {error.strerror}") from error
        raise RetryableError(f"the local store failed at {subject}: {error.strerror or error}") from error


if TYPE_CHECKING:

    def _conforms(store: LocalStore) -> ObjectStore:
        return store
