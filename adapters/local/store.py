"""LocalStore: a bucket in a directory, for any number of processes on one machine.

A key is a path below `objects/`. An object appears whole or not at all: it is written beside its place, flushed to the
disk, and renamed there, and the rename is flushed too. A put holds a file lock for its key from the look to the rename,
and no longer, and so does a delete: a process that is stopped in between holds all others up, though not for ever.
Versions are hashes of the bytes; ages are those of the files.
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

from lifecycle.errors import ConfigError, PermanentError, RetryableError, VersionConflictError
from lifecycle.ports.clock import Clock
from lifecycle.ports.store import Absent, Body, ListedObject, ObjectStore, Range, StoredObject, Version

LOCKS: Final = 256  # lock files; keys share them by hash
LOCK_WAIT_S: Final = 5.0
LOCK_POLL_S: Final = 0.005
MOVE_TRIES: Final = 100
ORPHAN_S: Final = 86_400.0  # a part this old belongs to a process that was killed
CHUNK: Final = 1 << 20
DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
IMPOSSIBLE: Final = frozenset({errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG})


class LocalStore:
    """See `lifecycle.ports.store.ObjectStore`.

    Args:
        root: The directory; made if it is not there.
        clock: For ages.

    Raises:
        ConfigError: The directory cannot be made.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._objects = root / "objects"
        self._parts = root / "parts"
        self._locks = root / "locks"
        self._clock = clock
        with _translating(str(root)):
            for directory in (self._objects, self._parts, self._locks):
                directory.mkdir(parents=True, exist_ok=True)
            self._sweep()

    def get(self, key: str) -> StoredObject | None:
        """See the port."""
        with _translating(key):
            try:
                with self._path(key).open("rb") as file:
                    body, seen = file.read(), os.fstat(file.fileno())
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
        return StoredObject(body, _version(body), self._age_s(seen))

    def put(self, key: str, body: Body, *, expected: Version | Absent | None = None) -> Version:
        """See the port."""
        target = self._path(key)
        with _translating(key), self._part() as part:
            with part.open("wb") as file:
                file.write(body)
                _flush(file)
            with self._locked(key):
                if expected is not None:
                    self._require(key, expected)
                self._move(part, target)
            self._flush_folders(target.parent)
        return _version(body)

    def get_range(self, wanted: Range) -> bytes | None:
        """See the port."""
        with _translating(wanted.key):
            try:
                with self._path(wanted.key).open("rb") as file:
                    file.seek(wanted.offset)
                    return file.read(wanted.length)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None

    def put_file(self, key: str, path: Path) -> None:
        """See the port."""
        target = self._path(key)
        with path.open("rb") as source, _translating(key), self._part() as part:
            with part.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK)
                _flush(file)
            self._move(part, target)
            self._flush_folders(target.parent)

    def assemble(self, key: str, parts: Sequence[Range | Callable[[], bytes]]) -> bool:
        """See the port."""
        target = self._path(key)
        with self._part() as part:
            with part.open("wb") as file:
                for each in parts:
                    content = self.get_range(each) if isinstance(each, Range) else each()
                    if content is None:
                        return False
                    with _translating(key):
                        file.write(content)
                with _translating(key):
                    _flush(file)
            with _translating(key):
                self._move(part, target)
                self._flush_folders(target.parent)
        return True

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """See the port."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._objects
        with _translating(prefix):
            found = sorted(self._walk(start, f"{folder}/" if folder else "", prefix))
        for key, seen in found:
            yield ListedObject(key, seen.st_size, f"{seen.st_ino}-{seen.st_mtime_ns}", self._age_s(seen))

    def delete(self, keys: Iterable[str]) -> None:
        """See the port."""
        for key in keys:
            path = self._path(key)
            with _translating(key), self._locked(key):
                try:
                    path.unlink(missing_ok=True)
                except (IsADirectoryError, NotADirectoryError):
                    continue
                self._remove_empty(path.parent)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise PermanentError(f"{key!r:.200} is no key: it has an empty part, or `.` or `..`")
        return self._objects.joinpath(*parts)

    @contextmanager
    def _part(self) -> Iterator[Path]:
        """A place for bytes that are no object yet; what is still there at the end is removed."""
        part = self._parts / uuid4().hex
        try:
            yield part
        finally:  # a move leaves it there too, where both names are already one file's (rename(2))
            part.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove the parts that killed processes have left."""
        now = self._clock.now().timestamp()
        for part in self._parts.iterdir():
            with suppress(FileNotFoundError):  # a neighbour sweeps too, or has just moved it
                if now - part.stat().st_ctime > ORPHAN_S:
                    part.unlink()

    def _require(self, key: str, expected: Version | Absent) -> None:
        current = self.get(key)
        stored = current is None if isinstance(expected, Absent) else current and current.version == expected
        if not stored:
            raise VersionConflictError(f"{key} is {'not ' if current is None else ''}there, or at another version")

    def _move(self, part: Path, target: Path) -> None:
        moment = self._clock.now().timestamp()
        os.utime(part, (moment, moment))
        for tries_left in reversed(range(MOVE_TRIES)):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            except (FileNotFoundError, FileExistsError):  # a neighbour's delete may remove the folder in between,
                if not tries_left:  # or between mkdir's two looks
                    raise
            else:
                return

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=2).digest()) % LOCKS
        with (self._locks / f"{number:03d}").open("w") as lock:
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
        """Make a rename in *folder* last, and the folders that it made or found just made by a neighbour."""
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

    def _age_s(self, seen: os.stat_result) -> float:
        return max(self._clock.now().timestamp() - seen.st_mtime, 0.0)


def _version(body: Body) -> Version:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make what *folder* lists last. A folder that a neighbour's delete has removed meanwhile holds nothing."""
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _translating(what: str) -> Iterator[None]:
    """Say by the remedy what the operating system says by number."""
    try:
        yield
    except OSError as error:
        if error.errno in DENIED:
            raise ConfigError(f"the local store may not touch {what}: {error.strerror}") from error
        if error.errno in IMPOSSIBLE:
            raise PermanentError(f"{what:.200} cannot be a path in the local store: {error.strerror}") from error
        raise RetryableError(f"the local store failed at {what}: {error}") from error


if TYPE_CHECKING:

    def _conforms(store: LocalStore) -> ObjectStore:
        return store
