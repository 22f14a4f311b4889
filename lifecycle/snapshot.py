"""Snapshots: a picture of the workload's files at one moment, on the node's own disk, in a directory of ours.

What the workload announced is complete and no longer written to: it is moved. Of a program that announces nothing, the
checkpoint directory is copied, and every file looked at again afterwards: one that was changed meanwhile spoils the
picture, and it is retaken. A file that only grew is good: it was copied to the length that it had.
"""

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from attrs import frozen

from lifecycle.ports.clock import Clock
from lifecycle.ports.runner import Announced

RETAKES: Final = 5
SETTLE_S: Final = 0.2  # the first pause before a retake; each further one is twice as long


@frozen
class Snapshot:
    """A picture of the workload's files.

    Attributes:
        seq: Its number.
        step: How far the workload was, if it said.
        directory: Where it lies; ours alone.
        is_last: Whether it closes the attempt: then it is committed together with the attempt's last state, and, as a
            completed job's outputs, uploaded even if nothing in it is new.
    """

    seq: int
    step: int | None
    directory: Path
    is_last: bool = False

    def paths(self) -> list[Path]:
        """All its files, in path order."""
        return [path for path in sorted(self.directory.rglob("*")) if path.is_file() and not path.is_symlink()]

    def discard(self) -> None:
        """Remove it from the disk. Safe to repeat."""
        shutil.rmtree(self.directory, ignore_errors=True)


def take_announced(announced: Announced, *, seq: int, into: Path) -> Snapshot:
    """Make an announced checkpoint ours, by moving it.

    Raises:
        OSError: It cannot be moved.
    """
    return Snapshot(seq, announced.step, _move(announced.path, seq, into))


def take_output(output: Path, *, seq: int, step: int | None, into: Path) -> Snapshot:
    """Make the outputs of a workload that has ended ours, by moving them.

    Raises:
        OSError: They cannot be moved.
    """
    return Snapshot(seq, step, _move(output, seq, into), is_last=True)


def take_directory(source: Path, *, seq: int, step: int | None, into: Path, clock: Clock) -> Snapshot | None:
    """Copy *source* as it stands at one moment.

    Returns:
        None if there is no file in it, or if it would not hold still for RETAKES tries.

    Raises:
        OSError: The disk is full, or a file cannot be read.
    """
    for retake in range(RETAKES):
        target = _fresh(into, seq)
        target.mkdir()
        before = _look(source)
        if not before:
            break
        try:
            copied = all(_copy(source / name, target / name, seen) for name, seen in before.items())
        except FileNotFoundError:
            copied = False
        if copied and _held_still(before, _look(source)):
            return Snapshot(seq, step, target)
        clock.sleep(SETTLE_S * 2**retake)
    shutil.rmtree(target, ignore_errors=True)
    return None


def _move(source: Path, seq: int, into: Path) -> Path:
    target = _fresh(into, seq)
    source.rename(target)
    return target


def _fresh(into: Path, seq: int) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    target = into / f"{seq:06d}"
    shutil.rmtree(target, ignore_errors=True)
    return target


def _look(source: Path) -> dict[str, os.stat_result]:
    """Every regular file below *source*; links and special files are no state."""
    found = {}
    for parent, _, names in os.walk(source):
        for name in names:
            path = Path(parent, name)
            try:
                seen = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(seen.st_mode):
                found[path.relative_to(source).as_posix()] = seen
    return found


def _copy(source: Path, target: Path, seen: os.stat_result) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        left = seen.st_size
        while left and (chunk := reader.read(min(left, 1 << 20))):
            writer.write(chunk)
            left -= len(chunk)
    target.chmod(stat.S_IMODE(seen.st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    return not left


def _held_still(before: dict[str, os.stat_result], after: dict[str, os.stat_result]) -> bool:
    return before.keys() == after.keys() and all(
        seen.st_ino == after[name].st_ino and (seen.st_size < after[name].st_size or _mark(seen) == _mark(after[name]))
        for name, seen in before.items()
    )


def _mark(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_size, seen.st_mtime_ns
