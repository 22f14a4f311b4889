"""`holdfast storage`: what is in the bucket, by job; and `holdfast queue`: what is in the queue."""

import json
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from client.config.composition import Environment

KINDS: Final = ("input", "checkpoints", "output", "log", "other")
FOLDERS: Final = {"input": "input", "input.txt": "input", "checkpoints": "checkpoints", "packs": "checkpoints"}
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@define
class StorageUse:
    """One job's share of the bucket: objects and bytes by kind, and seconds since anything changed."""

    job: str
    objects: int = 0
    bytes: dict[str, int] = field(factory=lambda: dict.fromkeys(KINDS, 0))
    age_s: float | None = None


def run(env: Environment, *, as_json: bool) -> int:
    """Print each job's share, and the total."""
    objects = total = 0
    if not as_json:
        print(f"{'job':<28} {'objects':>8} {'changed':>10}  " + " ".join(f"{kind:>12}" for kind in KINDS))
    for share in by_job(env):
        objects += share.objects
        total += sum(share.bytes.values())
        if as_json:
            print(json.dumps({"job": share.job, "objects": share.objects, "age_s": share.age_s, "bytes": share.bytes}))
        else:
            sizes = " ".join(f"{human(share.bytes[kind]):>12}" for kind in KINDS)
            print(f"{share.job:<28} {share.objects:>8} {_ago(share.age_s):>10}  {sizes}")
    if not as_json:
        print(f"{objects} objects, {human(total)}, in {env.bucket or env.settings.home}")
    return 0


def by_job(env: Environment) -> Iterator[StorageUse]:
    """The jobs under the prefix, in key order; what is no job's (records, rejected messages) is called `.holdfast`."""
    prefix = f"{env.layout.prefix}/" if env.layout.prefix else ""
    share: StorageUse | None = None
    for listed in env.store.list(prefix):
        job, _, rest = listed.key.removeprefix(prefix).partition("/")
        if share is None or share.job != job:
            if share:
                yield share
            share = StorageUse(job)
        folder = rest.partition("/")[0]
        kind = FOLDERS.get(folder, folder)
        share.objects += 1
        share.bytes[kind if kind in KINDS else "other"] += listed.size_bytes
        share.age_s = listed.age_s if share.age_s is None else min(share.age_s, listed.age_s)
    if share:
        yield share


def run_queue(env: Environment, *, as_json: bool) -> int:
    """Print how many messages there are; the queue's own numbers, which are approximate."""
    depth = env.queue.depth()
    if as_json:
        numbers = {"available": depth.available, "in_flight": depth.in_flight, "delayed": depth.delayed}
        print(json.dumps(numbers))
    else:
        print(f"{depth.available} available, {depth.in_flight} in flight, {depth.delayed} delayed (approximately)")
    return 0


def human(size_bytes: int) -> str:
    """A size for people."""
    size = float(size_bytes)
    for unit in UNITS[:-1]:
        if size < 1024:  # noqa: PLR2004 - bytes in a KiB, and so on
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"


def _ago(age_s: float | None) -> str:
    return "" if age_s is None else f"{age_s:.0f}s ago"
