"""A worker's files on its node: a work directory of its own, and the file by which a health check sees it alive."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from adapters.local.private_files import make_private_folder, open_private
from client.config.settings import Settings
from lifecycle.checkpoint.tree import discard_tree
from lifecycle.errors import ConfigError

LOCK: Final = ".lock"  # no job can have that name, and jobs have their directories beside it
SWEEP: Final = "sweep.lock"
ALIVE: Final = "alive"
MISSED_HEARTBEATS: Final = 4  # as many as lose the lease
SLACK_S: Final = 60.0  # a heartbeat waits for a slow store, and the end of an attempt has none


def touch(alive: Path) -> None:
    """Show a health check that this process is alive. Never fails: a full disk is reported where space is needed."""
    with suppress(OSError), open(alive, "ab", opener=open_private) as file:
        os.utime(file.fileno())


def health_problem(settings: Settings, *, now: float) -> str | None:
    """Return the problem of the worker that runs with *settings*; None if it is healthy.

    A worker touches a file between jobs at each poll, and during a job at each heartbeat.

    Args:
        settings: The worker's settings.
        now: Seconds since the epoch, by the clock of the file's time.
    """
    try:
        age_s = now - (settings.work_dir / ALIVE).stat().st_mtime
    except OSError as error:
        return f"no sign of life yet: {error.strerror}"
    limit_s = MISSED_HEARTBEATS * settings.heartbeat.total_seconds() + SLACK_S
    return f"last sign of life {age_s:.0f} s ago, more than {limit_s:.0f} s" if age_s > limit_s else None


@contextmanager
def own_directory(work_dir: Path, name: str) -> Iterator[Path]:
    """Create a directory below *work_dir* for this process, and remove those of processes that are gone.

    Raises:
        ConfigError: The directory cannot be created.
    """
    mine = work_dir / name
    with ExitStack() as locks:
        try:
            make_private_folder(mine)
            with open(work_dir / SWEEP, "w", opener=open_private) as sweep:
                fcntl.flock(sweep, fcntl.LOCK_EX)  # so that no process sees a directory that is not locked yet
                lock = locks.enter_context(open(mine / LOCK, "w", opener=open_private))
                fcntl.flock(lock, fcntl.LOCK_EX)
                for other in work_dir.iterdir():
                    if other.is_dir() and other != mine and _is_abandoned(other):
                        discard_tree(other)
        except OSError as error:
            raise ConfigError(f"WORK_DIR {work_dir} cannot be written to: {error.strerror or error}") from error
        try:
            yield mine
        finally:
            discard_tree(mine)


def _is_abandoned(directory: Path) -> bool:
    """Return True if the lock in *directory* exists and no living process holds it."""
    try:
        with (directory / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
