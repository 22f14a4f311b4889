"""Save or restore in a process of its own, to measure its memory alone, and print JSON.

Usage: saver.py URL BUCKET WHAT DIR, with WHAT one of save, restore; peers.py does the same with the peers. `save` takes
several DIRs and uploads each as a snapshot of one job; `restore` restores the last of them.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters.aws import store as r2
from adapters.aws.clients import Credentials
from adapters.local.clock import SystemClock
from adapters.retrying import RetryingStore
from lifecycle.checkpoint.chunks import DEFAULT_CHUNK_SIZES, BaseCheckpoint
from lifecycle.checkpoint.restore import restore
from lifecycle.checkpoint.snapshot import Snapshot, SnapshotFile
from lifecycle.checkpoint.writer import CheckpointWriter
from lifecycle.concurrency import RateLimiter
from lifecycle.job_record import CheckpointRef
from lifecycle.key_layout import KeyLayout

KEYS = Credentials(key_id="AKIATESTTESTTESTTEST", secret="not-a-secret")  # noqa: S106
REF = "ref.json"


def memory_mib(field: str) -> float:
    """Return a field of this process's status: `VmRSS`, its memory now, or `VmHWM`, its peak.

    `getrusage` would not do: its maximum is inherited from the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def store(url: str, bucket: str) -> RetryingStore:
    """Return the store, as a worker uses it."""
    clock = SystemClock()
    return RetryingStore(r2.connect(endpoint=url, region="auto", credentials=KEYS, bucket=bucket, clock=clock), clock)


def warm(used: RetryingStore) -> None:
    """Create clients and connections, as a worker does once in its life."""
    used.get("nothing")
    list(used.list("nothing"))


def save(url: str, bucket: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Upload folders as successive snapshots, and return time and bytes of each."""
    clock, used = SystemClock(), store(url, bucket)
    writer = CheckpointWriter(
        used,
        clock,
        keys=KeyLayout("").job("bench"),
        epoch=1,
        token="bench",  # noqa: S106 - an attempt token
        chunk_sizes=DEFAULT_CHUNK_SIZES,
        limiter=RateLimiter(clock, 0),
    )
    warm(used)
    idle_mib, base, results = memory_mib("VmRSS"), None, []
    for seq, folder in enumerate(folders, 1):
        base, row = save_one(writer, folder, seq, base)
        results.append(row)
    return {"idle_mib": idle_mib, "peak_mib": memory_mib("VmHWM"), "saved": results}


def save_one(
    writer: CheckpointWriter, folder: Path, seq: int, base: BaseCheckpoint | None
) -> tuple[BaseCheckpoint | None, dict[str, Any]]:
    """Upload one folder as the next snapshot."""
    files = tuple(
        SnapshotFile(f"checkpoint/{path.relative_to(folder)}", path, seen.st_size, 0o644, seen.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (seen := path.stat())
    )
    began, used = time.perf_counter(), time.process_time()
    saved = writer.upload(Snapshot(seq, None, folder, files), base, check_interrupted=lambda: None)
    took = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - used}
    if saved:
        Path(REF).write_text(json.dumps([saved.ref.manifest, saved.ref.digest]))
    return saved.base if saved else base, {**took, "sent": saved.ref.sent if saved else 0}


def restore_last(url: str, bucket: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Restore the snapshot that was saved last."""
    manifest, digest = json.loads(Path(REF).read_text())
    used, clock = store(url, bucket), SystemClock()
    warm(used)
    began = time.perf_counter()
    found = restore(
        used,
        clock,
        [CheckpointRef(manifest, digest, 1)],
        folders[0],
        local=folders[0] / "none",
        check_interrupted=lambda: None,
        on_damaged=lambda *_: None,
    )
    return {"s": time.perf_counter() - began, "fetched": found.fetched_bytes if found else 0}


WHAT: dict[str, Callable[[str, str, Sequence[Path]], dict[str, Any]]] = {
    "save": save,
    "restore": restore_last,
}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    url_, bucket_, what, *paths_ = sys.argv[1:]
    print(json.dumps(WHAT[what](url_, bucket_, [Path(path) for path in paths_])))
