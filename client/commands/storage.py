"""`holdfast storage`: list what each job stores in the bucket."""

import json
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from client import options
from client.config.environment import Environment
from client.views.output import say
from client.views.text import format_size

KINDS: Final = ("input", "checkpoints", "output", "log", "other")
FOLDERS: Final = {"input": "input", "input.txt": "input", "checkpoints": "checkpoints", "packs": "checkpoints"}


@define
class StorageUse:
    """One job's use of the bucket.

    Attributes:
        job: The job's id; `.holdfast` for objects that belong to no job, such as records.
        objects: Number of its objects.
        bytes: Their sizes, by kind.
        age_s: Seconds since the last change of any of them.
    """

    job: str
    objects: int = 0
    bytes: dict[str, int] = field(factory=lambda: dict.fromkeys(KINDS, 0))
    age_s: float | None = None


def run(env: Environment, *, as_json: bool) -> int:
    """Print the use of each job, and the total.

    Returns:
        0.
    """
    objects = total = 0
    if not as_json:
        say(f"{'job':<28} {'objects':>8} {'changed':>10}  " + " ".join(f"{kind:>12}" for kind in KINDS))
    for use in use_by_job(env):
        objects += use.objects
        total += sum(use.bytes.values())
        if as_json:
            say(json.dumps({"job": use.job, "objects": use.objects, "age_s": use.age_s, "bytes": use.bytes}))
        else:
            sizes = " ".join(f"{format_size(use.bytes[kind]):>12}" for kind in KINDS)
            say(f"{use.job:<28} {use.objects:>8} {_ago(use.age_s):>10}  {sizes}")
    if not as_json:
        say(f"{objects} objects, {format_size(total)}, in {env.bucket or env.settings.home}")
    return 0


def use_by_job(env: Environment) -> Iterator[StorageUse]:
    """Yield the use of each job under the prefix, in key order."""
    prefix = f"{env.layout.prefix}/" if env.layout.prefix else ""
    use: StorageUse | None = None
    for listed in env.store.list(prefix):
        job, _, rest = listed.key.removeprefix(prefix).partition("/")
        if use is None or use.job != job:
            if use:
                yield use
            use = StorageUse(job)
        folder = rest.partition("/")[0]
        kind = FOLDERS.get(folder, folder)
        use.objects += 1
        use.bytes[kind if kind in KINDS else "other"] += listed.size_bytes
        use.age_s = min((age_s for age_s in (use.age_s, listed.age_s) if age_s is not None), default=None)
    if use:
        yield use


def _ago(age_s: float | None) -> str:
    return "" if age_s is None else f"{age_s:.0f}s ago"


@options.command(
    "storage",
    ("holdfast storage", "Print the size of each job's inputs, checkpoints, outputs and logs."),
    ("holdfast storage --json", "Print them for a script."),
)
@options.json_option
def command(*, as_json: bool) -> int:
    """List what each job stores in the bucket."""
    return run(options.environment(), as_json=as_json)
