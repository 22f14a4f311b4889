"""Captures of the files of a program that announces nothing, while it runs.

At first, for a saving interval, they are captured when they have been quiet. If they never are, the program is frozen:
files that it writes to in place are copied while it runs, then it is stopped, and what has changed since is copied
again. A file that is open for writing may be half written; then the program goes on, and is stopped again at another
moment.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from attrs import define, field, frozen

from lifecycle.attempt.phases import RunningJob
from lifecycle.checkpoint.capture import capture_files, capture_frozen
from lifecycle.checkpoint.copies import TICK_NS, MadeCopy, copy_ahead, new_directory, snapshot_directory
from lifecycle.checkpoint.manifest import Quality
from lifecycle.checkpoint.patterns import compiled
from lifecycle.checkpoint.snapshot import Snapshot
from lifecycle.checkpoint.sparse import free_bytes, shares_blocks
from lifecycle.checkpoint.survey import FileState, Scan, scan
from lifecycle.checkpoint.tree import discard_tree
from lifecycle.ports.runner import FilesInUse

MOST_TRIES: Final = 10  # to find a moment at which no file is half written, or to stop every process
RETRY_WITHIN_S: Final = 1.0  # at random, against the rhythm of the program
RESTLESS_PATIENCE: Final = 5  # quiet times to wait for a program whose files were never quiet before
LIMIT_SHARE: Final = 0.7  # of the freeze limit that a copy may take, by the rate measured
COPY_SLICE_S: Final = 0.5  # of copying ahead between two looks at the program
ASSUMED_RATE: Final = 200e6  # bytes per second of a copy, before anything was copied
PASSES: Final = 2  # of copying ahead: the second is shorter than the first, and so is what changes meanwhile
REMEDY: Final = "replace such files by renaming, or announce checkpoints"


@frozen
class Captured:
    """A snapshot was taken.

    Attributes:
        snapshot: The snapshot.
        frozen_s: Seconds for which the program was stopped; 0 if it was not.
        tries: How often it was stopped.
    """

    snapshot: Snapshot
    frozen_s: float = 0.0
    tries: int = 0


@frozen
class NotCaptured:
    """No snapshot can be taken now; the next try is due after a saving interval.

    Attributes:
        why: The reason, and what to do about it.
    """

    why: str


class FileCaptures:
    """The captures of one attempt.

    Args:
        running: The running job.
        in_place: Paths of files that are known to be written to in place; added to.
        next_seq: Returns the number of another snapshot.
        was_frozen: Whether the last checkpoint was captured by freezing the program.
    """

    def __init__(
        self, running: RunningJob, in_place: set[str], *, next_seq: Callable[[], int], was_frozen: bool
    ) -> None:
        self._claimed = running.claimed
        self._child = running.child
        self._dirs = running.staged.launch.dirs
        self._workload = running.staged.launch.workload
        self._interval_s = running.staged.launch.saving_interval.total_seconds()
        self._in_place = in_place
        self._next_seq = next_seq
        self._is_restless = was_frozen
        self._scan: Scan = {}
        self._quiet_since = self._claimed.now()
        self._changes: dict[str, tuple[float, float, int]] = {}  # by path: first and last time, and number
        self._mapped: str | None = None
        self._captured: Scan = {}
        self._under_way: _FrozenCapture | None = None

    def try_now(self, *, due_at: float, step: int | None) -> Captured | NotCaptured | None:
        """Capture the files if that is possible now.

        Args:
            due_at: Since when a capture is due, by the monotonic clock.
            step: Number of steps done; None if unknown.

        Returns:
            The capture, or why there can be none; None if it is to be tried again soon.

        Raises:
            OSError: Files cannot be listed or read, or the disk refuses the snapshot.
        """
        try:
            files = self._scan_files()
            if not files:
                return NotCaptured("the program has saved no file of its state yet")
            if self._under_way:
                return self._go_on(self._under_way, step)
            captured = self._capture_if_quiet(files, step)
            if captured or self._claimed.now() - due_at <= self._patience_s():
                return captured
            self._is_restless = True
            if not self._workload.freeze:
                why = self._why_restless()
                self._changes.clear()
                return NotCaptured(f"{why}, or allow `freeze`")
            self._under_way = _FrozenCapture(seq=self._next_seq(), copying=iter(()))
            new_directory(self._dirs, self._under_way.seq)
            return self._copy_again(self._under_way, files, self._child.files_in_use())
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up the capture that is under way, if any. Safe to repeat."""
        if self._under_way:
            discard_tree(snapshot_directory(self._dirs, self._under_way.seq))
            self._under_way = None

    def _patience_s(self) -> float:
        """Return for how long to wait for a quiet moment before the program is frozen."""
        if not self._is_restless or not self._workload.freeze:
            return self._interval_s
        return min(RESTLESS_PATIENCE * self._workload.quiet.total_seconds(), self._interval_s)

    def _scan_files(self) -> Scan:
        return scan(self._dirs, self._workload, self._in_place)

    # ---- while it runs ----

    def _capture_if_quiet(self, files: Scan, step: int | None) -> Captured | None:
        now, quiet_s = self._claimed.now(), self._workload.quiet.total_seconds()
        if files != self._scan and quiet_s:
            if self._scan:
                self._note_changed([path for path, seen in files.items() if self._scan.get(path) != seen])
            self._scan, self._quiet_since = files, now
        elif now - self._quiet_since >= quiet_s:
            if self._note_mapped(files):
                self._quiet_since = now
                return None
            snapshot = capture_files(
                files,
                self._workload,
                Quality.QUIET,
                seq=self._next_seq(),
                step=step,
                dirs=self._dirs,
                in_place=self._in_place,
            )
            if snapshot and not self._note_mapped(files):
                self._note_captured(files)
                return Captured(snapshot)
            if snapshot:
                snapshot.discard()
            self._scan = {}  # something changed during the capture
        return None

    def _note_mapped(self, files: Scan) -> bool:
        """Return whether a file may be written to through memory, which leaves no trace in its times."""
        used = self._child.files_in_use()
        mapped = [path for path, seen in files.items() if self._is_mapped(path, seen, used)]
        self._mapped = min(mapped, default=None)
        self._in_place.update(() if used.unreadable else mapped)
        return bool(mapped)

    def _note_changed(self, paths: list[str]) -> None:
        now = self._claimed.now()
        for path in paths:
            first, _, count = self._changes.get(path, (now, now, 0))
            self._changes[path] = (first, now, count + 1)

    def _why_restless(self) -> str:
        """Return what keeps the files from being quiet, and what to do about it."""
        if self._mapped:
            return f"{self._mapped} is mapped into memory and may change at any time: announce checkpoints"
        if not self._changes:
            return f"its files were never still for {self._workload.quiet}: announce checkpoints"
        path, (first, last, count) = max(self._changes.items(), key=lambda item: item[1][2])
        period_s = (last - first) / (count - 1) if count > 1 else self._interval_s
        often = "second" if period_s < 1.5 else f"{period_s:.0f} s"  # noqa: PLR2004
        return f"{path} changes every {often}: declare it `growing`, replace it by renaming, announce checkpoints"

    def _note_captured(self, files: Scan) -> None:
        """Remember the files, and those that are written to in place: the same file with another content."""
        for path, seen in files.items():
            before = self._captured.get(path)
            if before and before.inode == seen.inode and before != seen:
                self._in_place.add(path)
        self._captured = files
        self._changes.clear()

    # ---- by freezing it ----

    def _go_on(self, capture: "_FrozenCapture", step: int | None) -> Captured | NotCaptured | None:
        began = self._claimed.now()
        for count in capture.copying:
            capture.copied_bytes += count
            if self._claimed.now() - began > COPY_SLICE_S:
                capture.copied_s += self._claimed.now() - began
                return None
        capture.copied_s += self._claimed.now() - began
        if began < capture.retry_at:
            return None
        files, used = self._scan_files(), self._child.files_in_use()
        rest = sum(files[path].size for path in self._to_copy(files, used, capture.made))
        limit_s = self._workload.freeze_limit.total_seconds()
        if rest / capture.rate > LIMIT_SHARE * limit_s:
            if capture.passes < PASSES:
                return self._copy_again(capture, files, used)
            needed_s = rest / capture.rate
            return self._give_up(
                f"{_size(rest)} written in place needs {needed_s:.0f} s; the limit is {limit_s:g} s: "
                f"raise `freeze_limit`, {REMEDY}"
            )
        return self._freeze(capture, step)

    def _copy_again(self, capture: "_FrozenCapture", files: Scan, used: FilesInUse) -> NotCaptured | None:
        """Begin to copy what will have to be copied, so that less is left for the freeze."""
        wanted = self._to_copy(files, used, capture.made)
        needed, free = sum(files[path].size for path in wanted), free_bytes(self._dirs.root)
        if needed > free and not shares_blocks(snapshot_directory(self._dirs, capture.seq)):
            return self._give_up(
                f"{_size(needed)} written in place must be copied, and {_size(free)} are free on the disk: {REMEDY}"
            )
        capture.passes += 1
        capture.copying = self._copies(capture, {path: self._is_mapped(path, files[path], used) for path in wanted})
        return None

    def _copies(self, capture: "_FrozenCapture", paths: Mapping[str, bool]) -> Iterator[int]:
        """Copy files ahead; *paths* says of each whether it is mapped."""
        for path, is_mapped in paths.items():
            yield from copy_ahead(path, capture.made, dirs=self._dirs, seq=capture.seq, is_mapped=is_mapped)

    def _is_mapped(self, path: str, seen: FileState, used: FilesInUse) -> bool:
        return used.is_mapped(self._dirs.root / path, seen.device, seen.inode)

    def _to_copy(self, files: Scan, used: FilesInUse, made: Mapping[str, MadeCopy]) -> list[str]:
        """Return the files that have to be copied, and not linked, and of which there is no current copy."""
        return [
            path
            for path, seen in sorted(files.items())
            if stat.S_ISREG(seen.mode)
            and self._may_change(path, seen, used)
            and not (path in made and self._is_current(path, seen, used, made[path]))
        ]

    def _may_change(self, path: str, seen: FileState, used: FilesInUse) -> bool:
        """Return whether the program is likely to write to this very file again."""
        known = path in self._in_place or compiled(self._workload.in_place).fullmatch(path) is not None
        return known or used.is_used(self._dirs.root / path, seen.device, seen.inode)

    def _is_current(self, path: str, seen: FileState, used: FilesInUse, made: MadeCopy) -> bool:
        return not self._is_mapped(path, seen, used) and made.is_current(self._dirs.root / path)

    def _freeze(self, capture: "_FrozenCapture", step: int | None) -> Captured | NotCaptured | None:
        capture.tries += 1
        began = self._claimed.now()
        if why := self._child.freeze():
            return self._try_later(capture, f"the program could not be stopped: {why}")
        snapshot = None
        try:
            files, used = self._scan_files(), self._child.files_in_use()
            half_written = self._half_written(files, used)
            if not half_written or capture.tries >= MOST_TRIES:
                self._note_in_place(files, used)
                snapshot = self._capture_frozen(capture, files, used, step)
        finally:
            kept = self._child.thaw()
        frozen_s = self._claimed.now() - began
        if snapshot is None:
            what = half_written or "a file"
            return self._try_later(capture, f"{what} was open for writing each time that the program was stopped")
        if not kept:
            capture.made.clear()
            new_directory(self._dirs, capture.seq)
            limit_s = self._workload.freeze_limit.total_seconds()
            return self._try_later(
                capture, f"the program was not stopped all the time: raise `freeze_limit` ({limit_s:g} s), or {REMEDY}"
            )
        self._note_captured(files)
        self._under_way = None
        return Captured(snapshot, frozen_s, capture.tries)

    def _note_in_place(self, files: Scan, used: FilesInUse) -> None:
        """Remember the files that are written to in place, unless nothing is known about them."""
        for path, seen in files.items() if not used.unreadable else ():
            file = (self._dirs.root / path, seen.device, seen.inode)
            if used.is_mapped(*file) or used.is_writing(*file):
                self._in_place.add(path)

    def _half_written(self, files: Scan, used: FilesInUse) -> str | None:
        """Return a file that has changed since the last capture, and is open for writing."""
        open_files = [
            path
            for path, seen in files.items()
            if self._captured.get(path) != seen and used.is_writing(self._dirs.root / path, seen.device, seen.inode)
        ]
        return min(open_files, default=None)

    def _capture_frozen(
        self, capture: "_FrozenCapture", files: Scan, used: FilesInUse, step: int | None
    ) -> Snapshot | None:
        target = snapshot_directory(self._dirs, capture.seq)
        os.utime(target)
        racy_from_ns = target.stat().st_mtime_ns - TICK_NS
        return capture_frozen(
            self._workload,
            seq=capture.seq,
            step=step,
            dirs=self._dirs,
            in_place=self._in_place,
            copies=lambda path, seen: seen.mtime_ns >= racy_from_ns or self._may_change(path, seen, used),
            made={
                path: made
                for path, made in capture.made.items()
                if path in files and self._is_current(path, files[path], used, made)
            },
        )

    def _try_later(self, capture: "_FrozenCapture", why: str) -> NotCaptured | None:
        """Try again at a random moment, unless that was tried often enough."""
        if capture.tries >= MOST_TRIES:
            return self._give_up(why)
        capture.retry_at = self._claimed.now() + self._claimed.context.rng.uniform(0.0, RETRY_WITHIN_S)
        return None

    def _give_up(self, why: str) -> NotCaptured:
        self.discard()
        return NotCaptured(why)


@define
class _FrozenCapture:
    """A capture that is being prepared.

    Attributes:
        seq: Number of its snapshot.
        copying: Copies files ahead; yields numbers of bytes.
        made: The copies, by path.
        passes: How often copying ahead was begun.
        copied_bytes: Bytes copied ahead.
        copied_s: Seconds that this took.
        tries: How often the program was stopped for it.
        retry_at: When to stop it next, by the monotonic clock.
    """

    seq: int
    copying: Iterator[int]
    made: dict[str, MadeCopy] = field(factory=dict)
    passes: int = 0
    copied_bytes: int = 0
    copied_s: float = 0.0
    tries: int = 0
    retry_at: float = 0.0

    @property
    def rate(self) -> float:
        """Bytes copied in a second, as measured."""
        return self.copied_bytes / self.copied_s if self.copied_bytes and self.copied_s else ASSUMED_RATE


def _size(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
