"""Checkpoint fixture: a job's directory on a node, and its checkpoints in a bucket."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from adapters.local.clock import SystemClock
from adapters.memory.store import MemoryStore
from lifecycle.checkpoint.capture import capture_files
from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES, BaseCheckpoint, ChunkSizes
from lifecycle.checkpoint.manifest import Manifest, Quality, digest_bytes
from lifecycle.checkpoint.manifest_codec import encode_manifest
from lifecycle.checkpoint.restore import RestoredCheckpoint, restore
from lifecycle.checkpoint.snapshot import Snapshot, SnapshotFile
from lifecycle.checkpoint.survey import scan
from lifecycle.checkpoint.writer import CheckpointWriter, UploadedCheckpoint
from lifecycle.concurrency import RateLimiter
from lifecycle.job_record import CheckpointRef
from lifecycle.key_layout import JobKeys, KeyLayout
from lifecycle.ports.runner import JobDirs, Workload
from lifecycle.ports.store import ObjectStore
from support.any_port import AnyPort

SMALL = ChunkSizes(
    small_bytes=16, large_bytes=64, large_from_bytes=4096, read_bytes=256, frame_bytes=128, pack_bytes=1024
)
"""The default sizes, a thousand times smaller."""


class CountingStore(AnyPort):
    """A store that records its calls and counts the bytes that are put."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.calls: list[tuple[str, Any]] = []
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args[0]))
            if name == "put":
                self.sent += len(args[1])
            return getattr(self._store, name)(*args, **kwargs)

        return call


@define
class CheckpointFixture:
    """One job on one node, and its bucket."""

    root: Path
    chunk_sizes: ChunkSizes = SMALL
    workload: Workload = field(factory=lambda: Workload("w", ("true",), growing=("output/*.log",)))
    keys: JobKeys = field(factory=lambda: KeyLayout("").job("j"))
    rng: random.Random = field(factory=lambda: random.Random(3))
    memory: MemoryStore = field(init=False)
    store: CountingStore = field(init=False)
    writer: CheckpointWriter = field(init=False)
    base: BaseCheckpoint | None = field(default=None, init=False)
    seq: int = field(default=0, init=False)
    limit: int = 0

    def __attrs_post_init__(self) -> None:
        clock = SystemClock()
        self.memory = MemoryStore(clock)
        self.store = CountingStore(self.memory)
        self.writer = self.new_writer("mark")
        for folder in (self.dirs.checkpoint, self.dirs.output):
            folder.mkdir(parents=True)

    @property
    def dirs(self) -> JobDirs:
        return JobDirs(self.root / "job")

    def new_writer(self, token: str) -> CheckpointWriter:
        """Return the checkpoint writer of an attempt with that token."""
        clock = SystemClock()
        limiter = RateLimiter(clock, self.limit)
        return CheckpointWriter(
            self.store, clock, keys=self.keys, epoch=1, token=token, chunk_sizes=self.chunk_sizes, limiter=limiter
        )

    def write(self, name: str, content: bytes) -> Path:
        """Replace a file of the checkpoint by renaming, and return its path."""
        path = self.dirs.checkpoint / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.parent / ".new"
        part.write_bytes(content)
        return part.replace(path)

    def noise(self, size: int) -> bytes:
        """Return *size* bytes that cannot be compressed."""
        return self.rng.randbytes(size)

    def save(self, *, in_place: set[str] | None = None, **changes: Any) -> UploadedCheckpoint | None:
        """Capture a snapshot, with *changes*, and upload it; the next upload builds on it."""
        self.seq += 1
        self.store.calls.clear()
        self.store.sent = 0
        seen = scan(self.dirs, self.workload)
        taken = capture_files(
            seen, self.workload, Quality.QUIET, seq=self.seq, step=self.seq, dirs=self.dirs, in_place=in_place or set()
        )
        assert taken is not None
        saved = self.writer.upload(evolve(taken, **changes), self.base, check_interrupted=lambda: None)
        if saved:
            self.base = saved.base
            self.writer.forget_failed_uploads()
        return saved

    def restore(self, saved: UploadedCheckpoint, into: Path) -> RestoredCheckpoint:
        """Restore a checkpoint into another directory."""
        found = restore(
            self.store,
            SystemClock(),
            [saved.ref],
            into,
            local=into / "none",
            check_interrupted=lambda: None,
            on_damaged=lambda *_: None,
        )
        assert found is not None
        return found

    def restore_manifest(
        self,
        manifest: Manifest,
        into: Path,
        encode: Callable[[Manifest], bytes] = encode_manifest,
        *,
        fallback: CheckpointRef | None = None,
    ) -> RestoredCheckpoint:
        """Commit *manifest* as *encode* writes it, and restore it; or *fallback*, if it is damaged."""
        body = encode(manifest)
        self.memory.put("made", body)
        refs = [CheckpointRef("made", digest_bytes(body), 1), *([fallback] if fallback else [])]
        damaged: list[str] = []
        found = restore(
            self.store,
            SystemClock(),
            refs,
            into,
            local=into / "none",
            check_interrupted=lambda: None,
            on_damaged=lambda _, why: damaged.append(why),
        )
        assert found is not None
        assert damaged == []
        return found

    def same(self, saved: UploadedCheckpoint, into: Path) -> RestoredCheckpoint:
        """Restore a checkpoint into another directory, and compare it with the job's."""
        found = self.restore(saved, into)
        assert files(into) == files(self.dirs.root)
        return found

    def forget_all(self) -> None:
        """Remove the job's directory, as on a node that never had the job."""
        shutil.rmtree(self.dirs.root)


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and mode of every file that a checkpoint can contain."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mode)
        for area in ("checkpoint", "output")
        for path in sorted((root / area).rglob("*"))
        if path.is_file()
    }


def keep(store: ObjectStore, keys: JobKeys, folder: Path, *, epoch: int = 1) -> UploadedCheckpoint:
    """Upload a folder that is laid out like a job's directory, as the outputs of a completed job."""
    clock = SystemClock()
    writer = CheckpointWriter(
        store,
        clock,
        keys=keys,
        epoch=epoch,
        token="mark",
        chunk_sizes=DEFAULT_CHUNK_SIZES,
        limiter=RateLimiter(clock, 0),
    )
    taken = tuple(
        SnapshotFile(path.relative_to(folder).as_posix(), path, seen.st_size, seen.st_mode, seen.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (seen := path.stat())
    )
    saved = writer.upload(Snapshot(1, None, folder, taken, is_last=True), None, check_interrupted=lambda: None)
    assert saved is not None
    return saved


def as_schema_2(manifest: Manifest) -> bytes:
    """Return a manifest as the version before wrote it."""
    raw = json.loads(encode_manifest(manifest))
    raw["schema"] = 2
    for name in ("directories", "symlinks", "hard_links", "quality", "announces"):
        del raw[name]
    for file in raw["files"]:
        del file["mtime"]
        if type(file["path"]) is dict:
            file["path"] = os.fsdecode(bytes.fromhex(file["path"]["hex"]))
    return json.dumps(raw, separators=(",", ":")).encode()


def saved(checkpoints: CheckpointFixture) -> UploadedCheckpoint:
    """Save a checkpoint that is due, and return it."""
    done = checkpoints.save()
    assert done is not None
    return done
